"""Greedy hill climbing: every batch starts from the best program so far.

The paper's greedy iterative improver (a baseline on learning parity with noise). A step is taken
only where the utility rises.
Budget: every call, in full batches; each distinct answer is scored once.
"""

from helpers import extract_code

EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Improve the best program again and again, and return the best of all."""
    scores = {initial_solution: utility.initial}
    best = initial_solution
    for _ in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        message = prompt(best, utility)
        try:
            answers = language_model.batch_prompt(EXPERTISE, [message] * n, temperature=0.7)
        except RuntimeError:
            break
        codes = [code for code in extract_code(answers) if code and code.strip()]
        fresh = [code for code in dict.fromkeys(codes) if code not in scores]
        scores.update(zip(fresh, utility.map(fresh), strict=True))
        best = max(scores, key=scores.get)
    return best


def prompt(program, utility):
    """Ask for a better version of a program."""
    return f"""Here is a program to improve:

```python
{program}
```

This utility decides how good a program is, and higher is better:

```python
{utility.str}
```

Write a better program. The improvement should be creative and non-trivial, as far as the \
constraints allow. First describe your idea, then write the whole program in one code block.
"""
