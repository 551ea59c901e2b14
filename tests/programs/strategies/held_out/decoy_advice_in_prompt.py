# strategies: best_of_n
from helpers import extract_code

ADVICE = """Consider beam search, a genetic algorithm with crossover of random parents, simulated
annealing with math.exp(delta / temperature), tree search with heapq, caching in a dict, restarts."""


def improve_algorithm(initial_solution, utility, language_model):
    message = f"{ADVICE}\n\nProgram:\n{initial_solution}\n\nUtility:\n{utility.str}"
    answers = language_model.batch_prompt("expert", [message] * 5, temperature=0.7)
    codes = [c for c in extract_code(answers) if c]
    return max(codes, key=utility, default=initial_solution)
