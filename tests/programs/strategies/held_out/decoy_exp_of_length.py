# strategies: refinement
import math
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    best = initial_solution
    best_quality = utility(best)
    for step in range(language_model.budget):
        # short programs are shown whole, long ones with a remark, more often when very long
        surprise = math.exp(-len(best) / 2000)
        remark = "It is long; shorten it." if random.random() > surprise else ""
        code = extract_code(language_model.prompt("expert", f"{remark}\n{best}\n{utility.str}")[0])
        if not code:
            continue
        quality = utility(code)
        if quality > best_quality:
            best, best_quality = code, quality
    return best
