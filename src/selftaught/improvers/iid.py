"""IID random sampling: independent answers to the seed improver's prompt, the best answer wins.

The baseline of Gideoni, Risi and Gal (arXiv 2602.16805). The initial solution does not compete:
between the seed improver and this only the number of answers differs, between this and best of n
only the incumbent. It is returned where no answer holds a program.
Budget: every call, as many responses as can still be scored; each distinct answer is scored once.
"""

from helpers import extract_code

EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Return the best of all answers to one prompt."""
    scores = {}
    message = prompt(initial_solution, utility)
    for _ in range(language_model.budget):
        n = min(language_model.max_responses_per_call, utility.budget - len(scores))
        if n < 1:
            break
        try:
            answers = language_model.prompt(EXPERTISE, message, n_responses=n, temperature=0.7)
        except RuntimeError:
            break
        for code in extract_code(answers):
            if code and code.strip() and code not in scores:
                scores[code] = utility(code)
    return max(scores, key=scores.get, default=initial_solution)


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
