# strategies: refinement, caching
import functools

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    score = functools.cache(utility.__call__)
    best = initial_solution
    for _ in range(language_model.budget):
        replies = language_model.prompt(
            "expert", "Improve this:\n" + best + "\nUtility:\n" + utility.str, n_responses=3
        )
        options = [best] + [c for c in extract_code(replies) if c]
        best = max(options, key=score)
    return best
