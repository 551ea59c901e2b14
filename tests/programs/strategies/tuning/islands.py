# strategies: refinement, genetic
import numpy as np
from helpers import extract_code

rng = np.random.default_rng(0)


def improve_algorithm(initial_solution, utility, language_model):
    base = utility(initial_solution)
    islands = [[(base, initial_solution)] for _ in range(3)]
    for step in range(language_model.budget):
        island = islands[step % len(islands)]
        idx = rng.integers(len(island))
        parent = island[idx][1]
        reply = language_model.prompt(
            "You evolve programs.", f"Mutate:\n```\n{parent}\n```\nscore function\n{utility.str}"
        )[0]
        child = extract_code(reply)
        if child:
            island.append((utility(child), child))
            island.sort(key=lambda m: m[0])
            if len(island) > 4:
                island.pop(0)
        if step % 5 == 4:  # migration of the best
            best = max((m for i in islands for m in i), key=lambda m: m[0])
            islands[(step + 1) % 3].append(best)
    return max((m for i in islands for m in i), key=lambda m: m[0])[1]
