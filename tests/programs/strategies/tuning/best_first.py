# strategies: refinement, tree_search
import heapq
import itertools

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    tick = itertools.count()
    first = utility(initial_solution)
    queue = [(-first, next(tick), initial_solution)]
    best, best_value = initial_solution, first
    calls = language_model.budget
    while queue and calls > 0:
        _, _, program = heapq.heappop(queue)
        calls -= 1
        message = f"Suggest improved versions of\n{program}\nThe score is\n{utility.str}"
        for code in extract_code(language_model.prompt("expert", message, n_responses=3)):
            if not code:
                continue
            value = utility(code)
            heapq.heappush(queue, (-value, next(tick), code))
            if value > best_value:
                best, best_value = code, value
    return best
