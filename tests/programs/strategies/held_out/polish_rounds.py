# strategies: refinement
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    best, best_score = initial_solution, utility(initial_solution)
    for _ in range(language_model.budget):
        message = f"Improve this program:\n```python\n{best}\n```\nScored by:\n{utility.str}"
        answer = language_model.prompt("You optimize code.", message)[0]
        candidate = extract_code(answer)
        if not candidate:
            continue
        score = utility(candidate)
        if score > best_score:
            best, best_score = candidate, score
    return best
