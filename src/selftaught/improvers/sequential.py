"""Sequential conditioned sampling: every prompt shows earlier attempts with their scores.

After the second baseline of Gideoni, Risi and Gal (arXiv 2602.16805), not a copy of it: here the
program to improve is the best so far, and the latest attempts follow it, failed ones too, with
what the utility said of each.
Budget: every call, a full batch that shares one history; each distinct answer is scored once.
"""

from helpers import extract_code

SHOWN = 6
EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Improve the best program in the light of the latest attempts, and return the best of all."""
    scores = {initial_solution: utility.initial}
    notes = {initial_solution: "the program that all began with"}
    best = initial_solution
    for _ in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        message = prompt(best, scores, notes, utility)
        try:
            answers = language_model.batch_prompt(EXPERTISE, [message] * n, temperature=0.7)
        except RuntimeError:
            break
        for code in extract_code(answers):
            if code and code.strip() and code not in scores:
                result = utility.evaluate(code)
                scores[code] = result.value
                notes[code] = f"{result.outcome} {result.feedback or ''}".strip()
        best = max(scores, key=scores.get)
    return best


def prompt(best, scores, notes, utility):
    """Ask for a better version of the best program, with the latest other attempts below it."""
    others = [code for code in scores if code != best][-SHOWN:]
    attempts = "\n\n".join(
        f"Score {scores[code]:.6g} ({notes[code]}):\n\n```python\n{code}\n```" for code in others
    )
    history = f"Other attempts so far, oldest first:\n\n{attempts}\n\n" if others else ""
    return f"""Here is a program to improve; it scores {scores[best]:.6g}:

```python
{best}
```

This utility decides how good a program is, and higher is better:

```python
{utility.str}
```

{history}Write a better program, and repeat no attempt: learn from what raised the score and what \
lowered it. First describe your idea, then write the whole program in one code block.
"""
