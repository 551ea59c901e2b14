# strategies: refinement, annealing, feedback
import math
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    incumbent, energy = initial_solution, -utility(initial_solution)
    best, lowest = incumbent, energy
    temp, stuck = 1.0, 0
    for _ in range(language_model.budget):
        msg = f"Energy now: {energy}. Lower it.\n{incumbent}\nEnergy is minus this:\n{utility.str}"
        code = extract_code(language_model.prompt("physicist", msg)[0])
        if code is None:
            continue
        e = -utility(code)
        worse_by = e - energy
        p = math.e ** (-worse_by / temp)
        if worse_by < 0 or p > random.uniform(0, 1):
            incumbent, energy = code, e
        if e < lowest:
            best, lowest, stuck = code, e, 0
        else:
            stuck += 1
        temp = 1.0 if stuck > 4 else temp * 0.9
    return best
