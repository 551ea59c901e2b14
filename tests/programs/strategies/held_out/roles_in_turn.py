# strategies: refinement, personas
from itertools import cycle

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    roles = cycle(["an optimizer", "a tester", "a teacher"])
    text, value = initial_solution, utility(initial_solution)
    while language_model.remaining and utility.remaining:
        who = next(roles)
        answer = language_model.prompt("You are " + who, "Improve:\n" + text + "\n" + utility.str)[0]
        code = extract_code(answer)
        if code:
            v = utility(code)
            if v >= value:
                text, value = code, v
    return text
