# strategies: refinement, restarts, temperature_schedule
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    archive = [(utility(initial_solution), initial_solution)]
    working = initial_solution
    for i in range(language_model.budget):
        if i % 4 == 0:
            working = initial_solution
        warm = 0.9 if i % 4 == 0 else 0.5
        msg = f"```python\n{working}\n```\nWrite a better one for\n{utility.str}"
        answer = extract_code(language_model.prompt("expert", msg, temperature=warm)[0])
        if answer:
            archive.append((utility(answer), answer))
            working = answer
    return max(archive, key=lambda a: a[0])[1]
