# strategies: refinement, bandit
import math
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    wordings = ["Simplify the inner loop.", "Add a local search.", "Use randomness well."]
    preference = [0.0, 0.0, 0.0]
    best, score = initial_solution, utility(initial_solution)
    for _ in range(language_model.budget):
        weights = [math.exp(p) for p in preference]
        i = random.choices(range(3), weights=weights)[0]
        out = language_model.prompt("expert", wordings[i] + "\n\n" + best + "\n\n" + utility.str)
        code = extract_code(out[0])
        if not code:
            preference[i] -= 0.5
            continue
        s = utility(code)
        preference[i] += 1.0 if s > score else -0.2
        if s > score:
            best, score = code, s
    return best
