"""Decomposition: the program's parts are improved in turn, and better parts are put together.

One of the strategies that the paper saw in generated improvers. Parts are the top-level functions
and classes, or the blocks of a single function. Where a batch improved several parts of the best
program, one more candidate joins them.
Budget: every call, each message about another part; each distinct text is scored once, and a
joined candidate costs a score.
"""

import ast

from helpers import extract_code

WHOLE = "the part that costs most of the score"
EXPERTISE = (
    "You are an expert computer science researcher and programmer, "
    "especially skilled at optimizing algorithms."
)


def improve_algorithm(initial_solution, utility, language_model):
    """Improve the best program part by part, and return the best of all."""
    scores = {initial_solution: utility.initial}
    best, turn = initial_solution, 0
    for _ in range(language_model.budget):
        scores_left = utility.budget - (len(scores) - 1)
        n = min(language_model.max_responses_per_call, scores_left)
        if n < 1:
            break
        names = list(parts(best)) or [WHOLE]
        targets = [names[(turn + i) % len(names)] for i in range(n)]
        messages = [prompt(best, target, utility) for target in targets]
        turn += n
        try:
            answers = language_model.batch_prompt(EXPERTISE, messages, temperature=0.7)
        except RuntimeError:
            break
        asked = dict(zip(extract_code(answers), targets, strict=False))
        fresh = [code for code in asked if code and code.strip() and code not in scores]
        scores.update(zip(fresh, utility.map(fresh), strict=True))
        better = [code for code in sorted(fresh, key=scores.get) if scores[code] > scores[best]]
        donors = {asked[code]: code for code in better}
        joined = join(best, donors) if len(donors) > 1 else best
        if joined not in scores and len(scores) - 1 < utility.budget:
            scores[joined] = utility(joined)
        best = max(scores, key=scores.get)
    return best


def parts(program):
    """Return the first and last line of each part of a program, by the part's name."""
    try:
        nodes = ast.parse(program).body
    except (SyntaxError, ValueError):
        return {}
    nodes = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    if len(nodes) == 1:
        blocks = (ast.FunctionDef, ast.For, ast.While, ast.If, ast.Try, ast.With)
        nodes += [node for node in nodes[0].body if isinstance(node, blocks)]
    spans = {}
    for node in nodes:
        first = min([node.lineno] + [d.lineno for d in getattr(node, "decorator_list", [])])
        kind = type(node).__name__.lower()
        name = getattr(node, "name", f"the {kind} block that begins in line {first}")
        spans[name] = (first, node.end_lineno)
    return spans


def join(program, donors):
    """Return the program with each part as its donor has it; a part around another one stays."""
    lines, own = program.split("\n"), parts(program)
    top = len(lines) + 1
    for name in sorted(donors.keys() & own.keys(), key=own.get, reverse=True):
        (first, last), span = own[name], parts(donors[name]).get(name)
        if span and last < top:
            lines[first - 1 : last] = donors[name].split("\n")[span[0] - 1 : span[1]]
            top = first
    return "\n".join(lines)


def prompt(program, part, utility):
    """Ask for a better version of one part of a program."""
    return f"""Here is a program to improve:

```python
{program}
```

This utility decides how good a program is, and higher is better:

```python
{utility.str}
```

Improve this part of it: {part}. Leave the other parts as they are, as far as possible. First \
describe your idea, then write the whole program, with the better part in it, in one code block.
"""
