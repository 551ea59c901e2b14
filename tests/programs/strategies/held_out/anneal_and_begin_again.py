# strategies: refinement, annealing, restarts
import random
from math import exp

from helpers import extract_code


def walk(start, utility, lm, steps):
    here = start
    value = utility(here)
    record = (value, here)
    for s in range(steps):
        heat = 0.3 * (1 - s / steps) + 1e-3
        code = extract_code(lm.prompt("explorer of programs", f"Modify:\n{here}\nfor\n{utility.str}")[0])
        if not code:
            continue
        new = utility(code)
        if exp(min(0.0, (new - value) / heat)) > random.random():
            here, value = code, new
        record = max(record, (value, here))
    return record


def improve_algorithm(initial_solution, utility, language_model):
    records = []
    for _ in range(3):
        # each walk starts from the very beginning
        records.append(walk(initial_solution, utility, language_model, language_model.budget // 3))
    return max(records)[1]
