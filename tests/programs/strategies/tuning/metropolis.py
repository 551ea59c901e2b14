# strategies: refinement, annealing
import math
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    x, fx = initial_solution, utility(initial_solution)
    best, fbest = x, fx
    T = 1.0
    for k in range(language_model.budget):
        y = extract_code(language_model.prompt("expert", f"Propose a variation of\n{x}\n{utility.str}")[0])
        if y is None:
            continue
        fy = utility(y)
        if fy > fx or random.random() < math.exp((fy - fx) / T):
            x, fx = y, fy
        if fx > fbest:
            best, fbest = x, fx
        T *= 0.8
    return best
