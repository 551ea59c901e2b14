# strategies: refinement, decomposition
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    outline = language_model.prompt(
        "You take programs apart.",
        f"Name the separate steps of this program, one on each line, nothing else:\n{initial_solution}",
    )[0]
    steps = [line.strip("- ") for line in outline.splitlines() if line.strip()]
    program, best = initial_solution, utility(initial_solution)
    for step in steps[: language_model.budget - 1]:
        answer = language_model.prompt(
            "You take programs apart.",
            f"Program:\n{program}\n\nImprove its step '{step}' and leave the rest.\n\n{utility.str}",
        )[0]
        code = extract_code(answer)
        if code:
            value = utility(code)
            if value > best:
                program, best = code, value
    return program
