# strategies: none
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    def attempt(tries_left):
        if tries_left == 0:
            return initial_solution
        reply = language_model.prompt("expert", f"Improve\n{initial_solution}\n{utility.str}")[0]
        return extract_code(reply) or attempt(tries_left - 1)

    return attempt(min(3, language_model.budget))
