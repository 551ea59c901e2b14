# strategies: refinement, temperature_schedule
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    best = initial_solution
    best_score = utility(best)
    temp = 1.2
    for _ in range(language_model.budget):
        codes = extract_code(
            language_model.prompt("expert", f"Improve:\n{best}\n{utility.str}", n_responses=4, temperature=temp)
        )
        scored = [(utility(c), c) for c in codes if c]
        if scored and max(scored)[0] > best_score:
            best_score, best = max(scored)
        temp *= 0.85
    return best
