# strategies: refinement
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    cache = {}

    def ask(message):
        # same question, same answer: spare the call
        if message not in cache:
            cache[message] = language_model.prompt("expert", message)[0]
        return cache[message]

    best = initial_solution
    for i in range(language_model.budget):
        code = extract_code(ask(f"Improve, take {i}:\n{best}\n{utility.str}"))
        if code and utility(code) > utility(best):
            best = code
    return best
