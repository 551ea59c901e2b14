"""Does everything that a run records: asks, is rejected, scores, overspends, and tries a file."""

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    try:
        open("/etc/passwd")
    except OSError:
        pass
    if "def improve_algorithm" not in initial_solution:
        try:
            language_model.prompt("you are picky", initial_solution)
        except Exception:
            pass
    message = "Improve this.\n\n```python\n" + initial_solution + "\n```\n"
    candidates = extract_code(language_model.batch_prompt("you are an expert", [message] * 3))
    best = max([*[c for c in candidates if c], initial_solution], key=utility)
    try:
        for _ in range(language_model.budget + 1):
            language_model.prompt("you are an expert", "Again:\n\n```python\n" + best + "\n```\n")
    except RuntimeError:
        pass
    return best
