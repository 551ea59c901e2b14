# strategies: best_of_n
from helpers import extract_code

EXPERTS = ["an algorithm designer", "a mathematician", "a hacker"]


def improve_algorithm(initial_solution, utility, language_model):
    results = []
    for _ in range(language_model.budget):
        role = "You are " + EXPERTS[0]
        replies = language_model.prompt(role, f"Improve\n{initial_solution}\n{utility.str}", n_responses=2)
        for code in extract_code(replies):
            if code:
                results.append((utility(code), code))
    results.sort()
    return results[-1][1] if results else initial_solution
