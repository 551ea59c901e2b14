# strategies: refinement
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    annealing_rate = 0.1
    current, value = initial_solution, utility(initial_solution)
    best = (value, current)
    for _ in range(language_model.budget):
        code = extract_code(language_model.prompt("expert", f"Improve\n{current}\n{utility.str}")[0])
        if code is None:
            continue
        v = utility(code)
        if v > value or random.random() < annealing_rate:
            current, value = code, v
        best = max(best, (v, code))
    return best[1]
