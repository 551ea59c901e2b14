"""Beam search: the few best programs are improved side by side.

The strategy that the paper saw most often in generated improvers. The beam holds the best
programs of all so far; a program with the lowest score seen is taken for a failure and left out.
Budget: every call, a full batch shared out over the beam; each distinct answer is scored once.
"""

from helpers import extract_code

BEAM_WIDTH = 3
EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Improve the best programs in parallel, and return the best of all."""
    scores = {initial_solution: utility.initial}
    beam = [initial_solution]
    for _ in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        messages = [prompt(beam[i % len(beam)], utility) for i in range(n)]
        try:
            answers = language_model.batch_prompt(EXPERTISE, messages, temperature=0.7)
        except RuntimeError:
            break
        codes = [code for code in extract_code(answers) if code and code.strip()]
        fresh = [code for code in dict.fromkeys(codes) if code not in scores]
        scores.update(zip(fresh, utility.map(fresh), strict=True))
        beam = widest(scores, initial_solution)
    return max(scores, key=scores.get)


def widest(scores, initial_solution):
    """Return the best programs in order, those that seem to fail left out."""
    lowest = min(scores.values())
    running = [code for code in scores if scores[code] > lowest]
    ranked = sorted(running, key=scores.get, reverse=True)
    return ranked[:BEAM_WIDTH] or [initial_solution]


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
