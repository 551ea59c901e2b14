# strategies: refinement
import logging

from helpers import extract_code

log = logging.getLogger("improver")


def improve_algorithm(initial_solution, utility, language_model):
    history = []
    solution, score = initial_solution, utility(initial_solution)
    for turn in range(language_model.budget):
        history.append(f"turn {turn}: score {score:.3f}")
        log.debug("history so far: %s", "\n".join(history))
        message = f"Turn {turn}. Improve\n{solution}\nwith respect to\n{utility.str}"
        code = extract_code(language_model.prompt("expert", message)[0])
        if code:
            s = utility(code)
            if s > score:
                solution, score = code, s
    return solution
