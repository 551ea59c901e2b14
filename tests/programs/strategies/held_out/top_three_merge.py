# strategies: refinement, beam, ensembles
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    elite = [(utility(initial_solution), initial_solution)]
    for _ in range(language_model.budget):
        listing = "\n\n".join(f"Program {i}:\n```python\n{c}\n```" for i, (_, c) in enumerate(elite))
        message = (
            f"These are the best programs known:\n{listing}\n\nCombine their ideas into one "
            f"program that is better than each of them. The measure is:\n{utility.str}"
        )
        replies = language_model.prompt("You combine ideas.", message, n_responses=4)
        for code in extract_code(replies):
            if code:
                elite.append((utility(code), code))
        elite = sorted(elite, key=lambda e: e[0], reverse=True)[:3]
    return elite[0][1]
