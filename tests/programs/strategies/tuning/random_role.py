# strategies: refinement, personas, caching
import random

from helpers import extract_code

CAST = {"algorithms": "You know every algorithm.", "numerics": "You know floating point."}


def improve_algorithm(initial_solution, utility, language_model):
    tried = set()
    best = initial_solution
    best_score = utility(best)
    for _ in range(language_model.budget):
        persona = CAST[random.choice(sorted(CAST))]
        for code in extract_code(language_model.prompt(persona, f"{best}\n{utility.str}\nImprove it.", 3)):
            if code is None or code.strip() in tried:
                continue
            tried.add(code.strip())
            score = utility(code)
            if score > best_score:
                best_score, best = score, code
    return best
