# strategies: best_of_n
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    temperature = 0.9
    temperatures = [temperature]
    cooling = 0.95
    message = f"Improve\n{initial_solution}\n{utility.str}"
    candidates = [initial_solution]
    for _ in range(language_model.budget):
        current = max(0.1, temperatures[0])
        replies = language_model.prompt("expert", message, n_responses=3, temperature=current)
        candidates.extend(c for c in extract_code(replies) if c)
    print("cooling would have been", cooling)
    return max(candidates[: utility.budget], key=utility)
