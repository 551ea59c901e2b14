# strategies: best_of_n, temperature_schedule
import numpy as np
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    temps = np.linspace(0.3, 1.2, language_model.budget)
    codes = [initial_solution]
    msg = "Optimize the code below for the utility.\n\n" + initial_solution + "\n\n" + utility.str
    for i in range(len(temps)):
        out = language_model.batch_prompt("expert", [msg] * 4, temperature=float(temps[i]))
        codes.extend(c for c in extract_code(out) if c is not None)
    codes = codes[: utility.budget]
    scores = np.array([utility(c) for c in codes])
    return codes[int(np.argmax(scores))]
