# strategies: refinement, beam
import heapq

from helpers import extract_code

K = 3


def improve_algorithm(initial_solution, utility, language_model):
    frontier = [(utility(initial_solution), initial_solution)]
    overall = frontier[0]
    for depth in range(max(1, language_model.budget // K)):
        children = []
        for _, parent in frontier:
            try:
                replies = language_model.prompt("expert programmer", ask(parent, utility), n_responses=2)
            except RuntimeError:
                return overall[1]
            for code in extract_code(replies):
                if code:
                    children.append((utility(code), code))
        frontier = heapq.nlargest(K, frontier + children, key=lambda item: item[0])
        overall = max(overall, frontier[0], key=lambda item: item[0])
    return overall[1]


def ask(program, utility):
    return f"Make this better:\n{program}\nThe measure:\n{utility.str}"
