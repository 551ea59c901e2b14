# strategies: refinement
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    beam = [(utility(initial_solution), initial_solution)]
    for _ in range(language_model.budget):
        leader = beam[0][1]
        replies = language_model.prompt("expert", f"Improve\n{leader}\n{utility.str}", n_responses=5)
        beam += [(utility(c), c) for c in extract_code(replies) if c]
        beam.sort(key=lambda b: b[0], reverse=True)
        beam = beam[:1]
    return beam[0][1]
