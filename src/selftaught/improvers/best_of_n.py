"""Best of n: many answers to the seed improver's prompt, and the best of all wins.

The control that critics of program search ask for first: the same budget, no search at all.
The initial solution competes too, so the result is never worse than it on the utility.
Budget: every call, in full batches; each distinct answer is scored once.
"""

from helpers import extract_code

EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Return the best of the initial solution and of all answers to one prompt."""
    scores = {initial_solution: utility.initial}
    message = prompt(initial_solution, utility)
    for _ in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        try:
            answers = language_model.batch_prompt(EXPERTISE, [message] * n, temperature=0.7)
        except RuntimeError:
            break
        codes = [code for code in extract_code(answers) if code and code.strip()]
        fresh = [code for code in dict.fromkeys(codes) if code not in scores]
        scores.update(zip(fresh, utility.map(fresh), strict=True))
    return max(scores, key=scores.get)


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
