# strategies: best_of_n
import heapq

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    heap = []
    message = f"Improve the program\n{initial_solution}\nfor\n{utility.str}"
    for code in extract_code(language_model.prompt("expert", message, n_responses=5)):
        if code:
            heapq.heappush(heap, (-utility(code), code))
    return heapq.heappop(heap)[1] if heap else initial_solution
