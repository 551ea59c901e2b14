"""An improver of the published seed's shape: exactly the calls it makes, nothing newer."""

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    """Improve a solution according to a utility function."""
    expertise = "You are a computer science researcher who is good at making algorithms better."
    message = f"""The solution so far:
```python
{initial_solution}
```

Solutions are scored by:
```python
{utility.str}
```

Answer with a better solution in a code block. Start with the idea behind it.
"""
    n_messages = min(language_model.max_responses_per_call, utility.budget)
    new_solutions = language_model.batch_prompt(expertise, [message] * n_messages, temperature=0.7)
    new_solutions = extract_code(new_solutions)
    return max(new_solutions, key=utility)
