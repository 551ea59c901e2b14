# strategies: best_of_n
from concurrent.futures import ThreadPoolExecutor

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    n = min(language_model.max_responses_per_call, 6)
    message = "\n".join(["Here is the code:", "```python", initial_solution, "```",
                         "It is graded by:", utility.str, "Return a faster, better version."])

    def worker(_):
        try:
            return language_model.prompt("You are a performance engineer.", message, n_responses=n)
        except RuntimeError:
            return []

    with ThreadPoolExecutor(max_workers=language_model.budget) as pool:
        replies = [r for rs in pool.map(worker, range(language_model.budget)) for r in rs]
    programs = [c for c in extract_code(replies) if c]
    with ThreadPoolExecutor(max_workers=4) as pool:
        grades = list(pool.map(utility, programs))
    if not grades:
        return initial_solution
    return programs[grades.index(max(grades))]
