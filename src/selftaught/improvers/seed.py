"""The seed improver of STOP, in function (paper, section 3: the improver I_0 of Algorithm 1).

Sends one prompt several times at once and returns the answer with the highest utility.
Budget: one call; as many responses and scores as one call and the utility's budget allow.
"""

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    """Improve a solution according to a utility function."""
    expertise = (
        "You are an expert computer science researcher and programmer, "
        "especially skilled at optimizing algorithms."
    )
    message = f"""Here is a program to improve:

```python
{initial_solution}
```

This utility decides how good a program is, and higher is better:

```python
{utility.str}
```

Write a better program. The improvement should be creative and non-trivial, as far as the \
constraints allow. First describe your idea, then write the whole program in one code block.
"""
    n_messages = min(language_model.max_responses_per_call, utility.budget)
    answers = language_model.batch_prompt(expertise, [message] * n_messages, temperature=0.7)
    candidates = extract_code(answers)
    return max(candidates, key=utility)
