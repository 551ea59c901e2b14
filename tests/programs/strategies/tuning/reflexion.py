# strategies: refinement, feedback
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    current = initial_solution
    report = utility.evaluate(current)
    champion, champion_value = current, report.value
    while language_model.remaining > 0 and utility.remaining > 0:
        message = f"""Your last program:
```python
{current}
```
The evaluator said: {report.feedback or 'nothing'}.
Fix what it complains about and make the program score higher under
{utility.str}"""
        code = extract_code(language_model.prompt("You debug programs.", message)[0])
        if code is None:
            continue
        current = code
        report = utility.evaluate(current)
        if report.value > champion_value:
            champion, champion_value = current, report.value
    return champion
