"""A bandit over prompts: wordings and temperatures that paid off are used more.

One of the strategies that the paper saw in generated improvers (upper confidence bounds). Each
message picks a wording, each call a temperature; an answer's reward is the share of the scores
so far that it beats. Every batch starts from the best program so far.
Budget: every call, in full batches; each distinct answer is scored once.
"""

import math

from helpers import extract_code

WORDINGS = (
    """Write a better program. The improvement should be creative and non-trivial, as far as the \
constraints allow.""",
    "Make one small, well chosen change and leave everything else as it is.",
    "Make two or three changes that support each other.",
    "Keep the method, and tune its constants, limits and the order of its steps.",
    "Replace the method at the program's core by a better one.",
)
TEMPERATURES = (0.7, 1.0, 0.4)
EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Improve the best program with the prompts that work best, and return the best of all."""
    scores = {initial_solution: utility.initial}
    best = initial_solution
    wordings = {wording: [0, 0.0] for wording in WORDINGS}
    temperatures = {temperature: [0, 0.0] for temperature in TEMPERATURES}
    for _ in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        temperature = pull(temperatures)
        chosen = [pull(wordings) for _ in range(n)]
        messages = [prompt(best, wording, utility) for wording in chosen]
        try:
            answers = language_model.batch_prompt(EXPERTISE, messages, temperature=temperature)
        except RuntimeError:
            break
        seen = list(scores.values())
        asked = dict(zip(extract_code(answers), chosen, strict=False))
        fresh = [code for code in asked if code and code.strip() and code not in scores]
        for code, score in zip(fresh, utility.map(fresh), strict=True):
            scores[code] = score
            reward = sum(score > other for other in seen) / len(seen)
            wordings[asked[code]][1] += reward
            temperatures[temperature][1] += reward / n
        best = max(scores, key=scores.get)
    return best


def pull(arms):
    """Choose the arm with the highest upper confidence bound, and count the pull."""
    total = sum(pulls for pulls, _ in arms.values())

    def bound(arm):
        pulls, reward = arms[arm]
        return reward / pulls + math.sqrt(math.log(total) / (2 * pulls)) if pulls else math.inf

    choice = max(arms, key=bound)
    arms[choice][0] += 1
    return choice


def prompt(program, wording, utility):
    """Ask for a better version of a program in one of the wordings."""
    return f"""Here is a program to improve:

```python
{program}
```

This utility decides how good a program is, and higher is better:

```python
{utility.str}
```

{wording} First describe your idea, then write the whole program in one code block.
"""
