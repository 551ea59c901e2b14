# strategies: refinement, decomposition
from helpers import extract_code

WINDOW = 12


def improve_algorithm(initial_solution, utility, language_model):
    source, value = initial_solution, utility(initial_solution)
    start = 0
    for _ in range(language_model.budget):
        lines = source.splitlines()
        if start >= len(lines):
            start = 0
        window = "\n".join(lines[start : start + WINDOW])
        message = f"Lines {start + 1} on of a program:\n{window}\n\nRewrite these lines only. {utility.str}"
        new = extract_code(language_model.prompt("expert", message)[0])
        if new:
            candidate = "\n".join(lines[:start] + new.splitlines() + lines[start + WINDOW :])
            v = utility(candidate)
            if v > value:
                source, value = candidate, v
        start += WINDOW
    return source
