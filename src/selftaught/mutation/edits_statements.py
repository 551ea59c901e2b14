"""First-order edits of statements: what a program does, in which order, how often.

Every edit takes a draft and a random source, changes the draft's tree in place and returns True,
or returns False and leaves it as it was because the program has no place for it.
"""

import ast
from random import Random

from selftaught.mutation.draft import Block, Draft
from selftaught.mutation.syntax import built, clone, contains, nodes

_LEAVES_LOOP = (ast.Break, ast.Continue)


def _pick_statement(draft: Draft, random: Random) -> tuple[Block, int] | None:
    found = [(block, i) for block in draft.blocks for i in block.movable()]
    return random.choice(found) if found else None


def delete_statement(draft: Draft, random: Random) -> bool:
    """Delete a statement."""
    picked = _pick_statement(draft, random)
    if picked is None:
        return False
    block, i = picked
    if len(block.body) == 1:
        block.body[i] = ast.Pass()
    else:
        del block.body[i]
    return True


def duplicate_statement(draft: Draft, random: Random) -> bool:
    """Do a statement twice in a row."""
    picked = _pick_statement(draft, random)
    if picked is None or isinstance(picked[0].body[picked[1]], (ast.Return, *_LEAVES_LOOP)):
        return False
    block, i = picked
    block.body.insert(i, clone(block.body[i]))
    return True


def swap_statements(draft: Draft, random: Random) -> bool:
    """Swap two statements of one block, mostly neighbours."""
    found = [(block, movable) for block in draft.blocks if len(movable := block.movable()) > 1]
    if not found:
        return False
    block, movable = random.choice(found)
    if random.random() < 0.6:
        at = random.randrange(len(movable) - 1)
        i, j = movable[at], movable[at + 1]
    else:
        i, j = random.sample(movable, 2)
    block.body[i], block.body[j] = block.body[j], block.body[i]
    return True


def move_statement(draft: Draft, random: Random) -> bool:
    """Move a statement to another place of the same function."""
    return _transplant(draft, random, keep=False)


def graft_statement(draft: Draft, random: Random) -> bool:
    """Copy a statement to another place of the same function."""
    return _transplant(draft, random, keep=True)


def _transplant(draft: Draft, random: Random, *, keep: bool) -> bool:
    picked = _pick_statement(draft, random)
    if picked is None:
        return False
    block, i = picked
    moved = block.body[i]
    inside = set(nodes(moved))
    targets = [
        b
        for b in draft.blocks
        if b.function is block.function
        and b.owner not in inside
        and (b.in_loop or not contains(moved, lambda n: isinstance(n, _LEAVES_LOOP)))
    ]
    if not targets:
        return False
    target = random.choice(targets)
    at = random.randint(0, len(target.body))
    new = clone(moved)
    target.body.insert(at, new)
    if not keep:
        block.body[:] = [s for s in block.body if s is not moved] or [ast.Pass()]
    return True


def exit_early(draft: Draft, random: Random) -> bool:
    """Leave or skip on with a loop under a condition that the program holds already."""
    blocks = [block for block in draft.blocks if block.in_loop and block.movable()]
    picked = _condition(draft, random)
    if not blocks or picked is None:
        return False
    block = random.choice(blocks)
    leave = ast.Break() if random.random() < 0.6 else ast.Continue()
    at = random.randint(0, len(block.body))
    block.body.insert(at, ast.If(picked, [leave], []))
    return True


def guard_statement(draft: Draft, random: Random) -> bool:
    """Do a statement only under a condition that the program holds already."""
    picked = _pick_statement(draft, random)
    if picked is None or isinstance(picked[0].body[picked[1]], ast.Return):
        return False
    condition = _condition(draft, random)
    if condition is None:
        return False
    block, i = picked
    block.body[i] = ast.If(condition, [block.body[i]], [])
    return True


def _condition(draft: Draft, random: Random) -> ast.expr | None:
    place = draft.pick(random, lambda p: isinstance(p.node, ast.Compare))
    if place is None:
        return None
    condition: ast.expr = clone(place.node)
    return ast.UnaryOp(ast.Not(), condition) if random.random() < 0.3 else condition


def remove_branch(draft: Draft, random: Random) -> bool:
    """Drop an `else`, or do one branch of an `if` whatever its condition says."""
    found = [
        (block, i)
        for block in draft.blocks
        for i, statement in enumerate(block.body)
        if isinstance(statement, ast.If)
    ]
    if not found:
        return False
    block, i = random.choice(found)
    branch = block.body[i]
    if not isinstance(branch, ast.If):
        return False
    if branch.orelse and random.random() < 0.5:
        branch.orelse = []
    elif branch.orelse and random.random() < 0.5:
        block.body[i : i + 1] = branch.orelse
    else:
        block.body[i : i + 1] = branch.body
    return True


def reverse_loop(draft: Draft, random: Random) -> bool:
    """Let a `for` run over its items the other way round."""
    place = draft.pick(
        random, lambda p: p.field == "iter" and isinstance(p.owner, (ast.For, ast.comprehension))
    )
    if place is None:
        return False
    items = place.node
    if isinstance(items, ast.Call) and isinstance(items.func, ast.Name):
        if items.func.id == "reversed" and len(items.args) == 1:
            place.put(items.args[0])
            return True
        if items.func.id != "range":
            items = ast.Call(ast.Name("list", ast.Load()), [items], [])
    else:
        items = ast.Call(ast.Name("list", ast.Load()), [items], [])
    place.put(ast.Call(ast.Name("reversed", ast.Load()), [items], []))
    return True


def bound_while(draft: Draft, random: Random) -> bool:
    """Turn a `while` into a `for` of so many passes that ends when the condition does."""
    found = [
        (block, i, statement)
        for block in draft.blocks
        for i, statement in enumerate(block.body)
        if isinstance(statement, ast.While) and not statement.orelse
    ]
    if not found:
        return False
    block, i, loop = random.choice(found)
    passes = random.choice((10, 30, 100, 1000))
    leave = ast.If(ast.UnaryOp(ast.Not(), loop.test), [ast.Break()], [])
    new = built(ast.For, f"for _ in range({passes}):\n    pass")
    new.body = [leave, *loop.body]
    block.body[i] = new
    return True


def repeat_statement(draft: Draft, random: Random) -> bool:
    """Do a statement, mostly a loop, several times in a loop of its own."""
    picked = _pick_statement(draft, random)
    if picked is None:
        return False
    block, i = picked
    statement = block.body[i]
    if contains(statement, lambda n: isinstance(n, (ast.Return, *_LEAVES_LOOP))):
        return False
    passes = random.choice((2, 2, 3, 5))
    new = built(ast.For, f"for _ in range({passes}):\n    pass")
    new.body = [statement]
    block.body[i] = new
    return True


def keep_best_of_retries(draft: Draft, random: Random) -> bool:
    """Compute a value several times and keep the one that a function of the program prefers.

    Fits where `v = make(...)` is followed by `judge(..., v, ...)` with a function of the program:
    the value becomes the minimum or maximum of several tries by that judgement.
    """
    own = {function.name for function in draft.functions}
    found: list[tuple[ast.Assign, str, ast.Call]] = []
    for place in draft.places:
        judge = place.node
        if not (isinstance(judge, ast.Call) and isinstance(judge.func, ast.Name)):
            continue
        if judge.func.id not in own or place.function is None:
            continue
        judged = {arg.id for arg in judge.args if isinstance(arg, ast.Name)}
        found.extend(
            (made, made.targets[0].id, judge)
            for made in _made_values(place.function)
            if isinstance(made.targets[0], ast.Name)
            and made.targets[0].id in judged
            and made.value is not judge
        )
    if not found:
        return False
    made, name, judge = random.choice(found)
    better = random.choice(("min", "max"))
    tries = random.choice((2, 3, 5, 10))
    made_often = built(ast.ListComp, f"[0 for _ in range({tries})]")
    made_often.elt = made.value
    key = built(ast.Lambda, f"lambda {name}: 0")
    key.body = clone(judge)
    best = ast.Name(better, ast.Load())
    made.value = ast.Call(best, [made_often], [ast.keyword("key", key)])
    return True


def _made_values(function: ast.AST) -> list[ast.Assign]:
    return [
        node
        for node in nodes(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Call, ast.ListComp))
    ]


def cross_statement(draft: Draft, random: Random) -> bool:
    """Put a statement of another version of the program in the place of one, or beside it."""
    if not draft.donors:
        return False
    donor = Draft(random.choice(draft.donors))
    given = _pick_statement(donor, random)
    taken = _pick_statement(draft, random)
    if given is None or taken is None:
        return False
    new = clone(given[0].body[given[1]])
    block, i = taken
    if type(new) is type(block.body[i]) or random.random() < 0.5:
        block.body[i] = new
    else:
        block.body.insert(i, new)
    return True


def cross_function(draft: Draft, random: Random) -> bool:
    """Take over a function of another version, with the imports it needs."""
    if not draft.donors:
        return False
    donor = random.choice(draft.donors)
    own = {node.name: node for node in draft.tree.body if isinstance(node, ast.FunctionDef)}
    given = [n for n in donor.body if isinstance(n, ast.FunctionDef) and n.name in own]
    if not given:
        return False
    new = random.choice(given)
    own[new.name].body = clone(new).body
    at = 0
    while at < len(draft.tree.body) and not isinstance(draft.tree.body[at], ast.FunctionDef):
        at += 1
    draft.tree.body[at:at] = _missing(draft, donor, new)
    return True


def _missing(draft: Draft, donor: ast.Module, taken: ast.FunctionDef) -> list[ast.stmt]:
    """Copies of the donor's top-level statements that bind what `taken` needs and lacks."""
    bound = {name for statement in draft.tree.body for name in _binds(statement)}
    wanted = {node.id for node in nodes(taken) if isinstance(node, ast.Name)}
    missing: list[ast.stmt] = []
    for statement in reversed(donor.body):
        names = _binds(statement)
        if wanted & names and not bound & names:
            missing.insert(0, clone(statement))
            wanted |= {node.id for node in nodes(statement) if isinstance(node, ast.Name)}
    return missing


def _binds(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            return set()
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return set()
