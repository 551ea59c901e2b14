# strategies: refinement, feedback
from helpers import extract_code


class Attempt:
    def __init__(self, text, value):
        self.text = text
        self.value = value


def describe(attempts):
    lines = []
    for number, attempt in enumerate(attempts, 1):
        lines.append("attempt %d reached %.4f" % (number, attempt.value))
    return "\n".join(lines)


def improve_algorithm(initial_solution, utility, language_model):
    attempts = [Attempt(initial_solution, utility(initial_solution))]
    for step in range(language_model.budget):
        top = max(attempts, key=lambda a: a.value)
        message = (
            "Best program so far:\n" + top.text
            + "\n\nProgress so far:\n" + describe(attempts)
            + "\n\nUtility:\n" + utility.str
            + "\n\nGive me something better."
        )
        reply = language_model.prompt("Algorithm designer", message)[0]
        code = extract_code(reply)
        if code:
            attempts.append(Attempt(code, utility(code)))
    return max(attempts, key=lambda a: a.value).text
