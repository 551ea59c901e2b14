"""Chain of thought: one batch that asks for reasoning step by step before the code.

The paper's baseline of this name (on learning parity with noise). It differs from the seed
improver in the prompt alone: the initial solution does not compete, nothing is iterated. The
initial solution is returned only where no answer holds a program.
Budget: one call; as many responses and scores as one call and the utility's budget allow.
"""

from helpers import extract_code

EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Return the best of several answers that reason before they write code."""
    message = f"""Here is a program to improve:

```python
{initial_solution}
```

This utility decides how good a program is, and higher is better:

```python
{utility.str}
```

Think step by step, and write each step down:
1. What does the utility reward, and what are its limits?
2. What does the program do, and where does it lose score or time?
3. Which algorithms solve this kind of problem, and what does each cost?
4. Which one fits best here, and what can go wrong with it?
Only after that write the whole improved program in one code block.
"""
    n = min(language_model.max_responses_per_call, utility.budget)
    try:
        answers = language_model.batch_prompt(EXPERTISE, [message] * n, temperature=0.7)
    except RuntimeError:
        return initial_solution
    codes = [code for code in extract_code(answers) if code and code.strip()]
    fresh = list(dict.fromkeys(codes))
    scores = dict(zip(fresh, utility.map(fresh), strict=True))
    return max(scores, key=scores.get, default=initial_solution)
