"""Simulated annealing: the search may move to a worse program, less and less willingly.

One of the strategies that the paper saw in generated improvers. The best answer of a batch is the
proposed move. The temperature falls to zero with the calls and is measured in the batch's typical
step, so that it needs no scale; a program with the lowest score seen is never moved to.
Budget: every call, in full batches; each distinct answer is scored once.
"""

import math
import random
import statistics

from helpers import extract_code

EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Walk from program to program, and return the best that was met."""
    scores = {initial_solution: utility.initial}
    current = initial_solution
    for call in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        message = prompt(current, utility)
        try:
            answers = language_model.batch_prompt(EXPERTISE, [message] * n, temperature=0.7)
        except RuntimeError:
            break
        codes = [code for code in extract_code(answers) if code and code.strip()]
        fresh = [code for code in dict.fromkeys(codes) if code not in scores]
        scores.update(zip(fresh, utility.map(fresh), strict=True))
        if fresh:
            proposed = max(fresh, key=scores.get)
            step = statistics.median(abs(scores[code] - scores[current]) for code in fresh)
            heat = 0.5 * step * (1 - (call + 1) / language_model.budget)
            loss = scores[current] - scores[proposed]
            if loss <= 0 or (scores[proposed] > min(scores.values()) and accept(loss, heat)):
                current = proposed
    return max(scores, key=scores.get)


def accept(loss, heat):
    """Decide by chance whether to move to a program that is worse by `loss`."""
    return heat > 0 and random.random() < math.exp(-loss / heat)


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
