# strategies: refinement, ensembles
from collections import deque

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    recent = deque([initial_solution], maxlen=3)
    everything = [initial_solution]
    for _ in range(language_model.budget):
        message = "Recent versions, oldest first:\n" + "\n-----\n".join(recent)
        message += "\nContinue the series with a better version.\n" + utility.str
        code = extract_code(language_model.prompt("expert", message)[0])
        if code:
            recent.append(code)
            everything.append(code)
    everything = everything[: utility.budget]
    return max(everything, key=utility)
