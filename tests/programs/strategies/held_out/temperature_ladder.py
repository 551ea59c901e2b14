# strategies: best_of_n, temperature_schedule
from helpers import extract_code

LADDER = [0.2, 0.5, 0.8, 1.1]


def improve_algorithm(initial_solution, utility, language_model):
    pool = [(utility(initial_solution), initial_solution)]
    task = f"""Improve:
```python
{initial_solution}
```
Utility:
```python
{utility.str}
```"""
    for t in LADDER:
        if utility.budget - utility.uses <= 0:
            break
        for reply in language_model.prompt("Code optimizer", task, n_responses=3, temperature=t):
            code = extract_code(reply)
            if code:
                pool.append((utility(code), code))
    return max(pool, key=lambda p: p[0])[1]
