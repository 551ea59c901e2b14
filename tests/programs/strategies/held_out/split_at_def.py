# strategies: refinement, decomposition
import re

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    pieces = re.split(r"(?m)^(?=def |class )", initial_solution)
    score = utility(initial_solution)
    i = 0
    while language_model.remaining > 0 and utility.remaining > 0 and pieces:
        piece = pieces[i % len(pieces)]
        reply = language_model.prompt(
            "You polish single functions.",
            f"Rewrite this fragment of a larger program:\n```python\n{piece}\n```\nThe goal:\n{utility.str}",
        )[0]
        fragment = extract_code(reply)
        i += 1
        if fragment is None:
            continue
        attempt = pieces[:]
        attempt[(i - 1) % len(pieces)] = fragment + "\n\n"
        value = utility("".join(attempt))
        if value > score:
            pieces, score = attempt, value
    return "".join(pieces)
