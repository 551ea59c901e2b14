"""Genetic algorithm: a population, tournaments, and crossover by showing two programs at once.

One of the strategies that the paper saw in generated improvers. The parent to improve comes
first in the prompt, the other parent after the utility. A program with the lowest score seen is
taken for a failure and never becomes a parent.
Budget: every call, in full batches; each distinct answer is scored once.
"""

import random

from helpers import extract_code

POPULATION = 6
CROSSOVER = 0.5
EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Breed programs from the fittest so far, and return the best of all."""
    scores = {initial_solution: utility.initial}
    population = [initial_solution]
    for _ in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        messages = [offspring(population, scores, utility) for _ in range(n)]
        try:
            answers = language_model.batch_prompt(EXPERTISE, messages, temperature=0.7)
        except RuntimeError:
            break
        codes = [code for code in extract_code(answers) if code and code.strip()]
        fresh = [code for code in dict.fromkeys(codes) if code not in scores]
        scores.update(zip(fresh, utility.map(fresh), strict=True))
        running = [code for code in scores if scores[code] > min(scores.values())]
        ranked = sorted(running, key=scores.get, reverse=True)
        population = ranked[:POPULATION] or [initial_solution]
    return max(scores, key=scores.get)


def tournament(population, scores):
    """Return the better of two programs drawn at random."""
    return max(random.sample(population, min(2, len(population))), key=scores.get)


def offspring(population, scores, utility):
    """Ask for a child of one parent, or of two."""
    parent = tournament(population, scores)
    mate = tournament(population, scores)
    message = f"""Here is a program to improve:

```python
{parent}
```

This utility decides how good a program is, and higher is better:

```python
{utility.str}
```

"""
    if mate != parent and random.random() < CROSSOVER:
        return f"""{message}Another program for the same purpose scores {scores[mate]:.6g}, where \
the one above scores {scores[parent]:.6g}:

```python
{mate}
```

Cross the two: write one program that joins the strengths of both and is better than either. \
First describe your idea, then write the whole program in one code block.
"""
    return f"""{message}Write a better program. The improvement should be creative and \
non-trivial, as far as the constraints allow. First describe your idea, then write the whole \
program in one code block.
"""
