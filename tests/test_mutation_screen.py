"""The static screen: bound names, tidying, sizes, endless loops, entry points."""

import ast
import textwrap
import warnings
from pathlib import Path

import pytest

from selftaught.mutation.names import unbound_names
from selftaught.mutation.screen import GROWTH, MOST_CHARS, ROOM, Screen, is_endless
from selftaught.mutation.syntax import clone, compiles, nodes, parse
from selftaught.mutation.tidy import tidy


def unbound(text):
    return set(unbound_names(ast.parse(textwrap.dedent(text))))


@pytest.mark.parametrize(
    "text",
    [
        "import os.path as p, sys\ndef f():\n    return p.join(sys.path[0], __name__)",
        "def f(a, *b, c=1, **d):\n    return a, b, c, d, len(b)",
        "def f():\n    return g()\ndef g():\n    return f",
        "def f(x):\n    return [y for y in x if (z := y)] and z",
        "def f(x):\n    return {k: v for k, v in x for w in v if w}, lambda q, r=1: q + r",
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return n, g",
        "total = 0\ndef f():\n    global total, new\n    new = total\ndef g():\n    return new",
        "def f():\n    try:\n        x = 1\n    except OSError as e:\n        x = e\n    return x",
        "def f(p):\n    with open(p) as h:\n        return h.read()",
        "def f(x):\n    match x:\n        case [a, *b]:\n            return a, b",
        "def f(x):\n    match x:\n        case {'k': v, **r}:\n            return v, r",
        "class A:\n    one = 1\n    def m(self):\n        return A, self\nb: int = A().m()",
        "def f(x):\n    if x:\n        y = 1\n    else:\n        return 0\n    return y",
        "def f(x):\n    for a, b in x:\n        pass\n    return a + b",
        "def f():\n    def later():\n        return x\n    x = 1\n    return later()",
        "from math import *\ndef f():\n    return sqrt(anything)",
        "def f(x):\n    del x\n",
        "async def f(x):\n    async for y in x:\n        await y",
    ],
)
def test_bound_names_are_seen_as_bound(text):
    assert unbound(text) == set()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(a):\n    return b", {"b"}),
        ("def f():\n    x = x + 1\n    return x", {"x"}),
        ("def f():\n    x += 1", {"x"}),
        ("def f():\n    y = x\n    x = 1\n    return y", {"x"}),
        ("def f(c):\n    if c:\n        x = 1\n    return x", {"x"}),
        ("def f(c):\n    return [y for y in c] + [y]", {"y"}),
        ("def f(c):\n    return [y for y in c if w]", {"w"}),
        ("def f(c):\n    while n < 3:\n        n = c", {"n"}),
        ("def f(c):\n    for i in c:\n        print(last)\n        last = i", {"last"}),
        ("def f():\n    def g():\n        inner = 1\n    return inner", {"inner"}),
        ("def f():\n    return f'{missing}'", {"missing"}),
        ("def f(a=missing):\n    return a", {"missing"}),
        ("@missing\ndef f():\n    return 1", {"missing"}),
    ],
)
def test_unbound_names_are_found(text, names):
    assert unbound(text) == names


def test_own_modules_are_sound_by_this_measure():
    """Real code has few names that look unbound: those that a branch alone binds."""
    import selftaught.mutation.edits_values as module

    source = parse(Path(module.__file__).read_text(encoding="utf-8"))
    assert source is not None
    assert unbound_names(source) == frozenset()


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("def f():\n    return 1\n    print(2)", "def f():\n    return 1"),
        ("def f(x):\n    x = x\n    return x", "def f(x):\n    return x"),
        ("def f():\n    a = 1\n    a = 1\n    return a", "def f():\n    a = 1\n    return a"),
        ("def f(a):\n    a = a + 1\n    a = a + 1\n    return a",) * 2,
        ("def f(a):\n    a = g()\n    a = g()\n    return a",) * 2,
        ("def f():\n    def g():\n        return 1\n    return 2", "def f():\n    return 2"),
        ("def f(x):\n    unused = x * 2\n    return x", "def f(x):\n    return x"),
        ("def f(x):\n    unused = x()\n    return x",) * 2,
        ("def f(x):\n    3\n    x\n    return x", "def f(x):\n    return x"),
        ("def f(x):\n    if x > 1:\n        pass\n    return x", "def f(x):\n    return x"),
        ("def f(x):\n    if x():\n        pass\n    return x",) * 2,
        (
            "def f(x):\n    for _ in range(3):\n        pass\n    return x",
            "def f(x):\n    return x",
        ),
        (
            "def f(x):\n    for i in x:\n        break\n        x()",
            "def f(x):\n    for i in x:\n        break",
        ),
        (
            "def f(x):\n    if x:\n        x()\n    else:\n        pass",
            "def f(x):\n    if x:\n        x()",
        ),
        ("def _unused():\n    return 1\n\ndef f():\n    return 2", "def f():\n    return 2"),
        ("def _used():\n    return 1\n\ndef f():\n    return _used()",) * 2,
        ("def public():\n    return 1\n\ndef f():\n    return 2",) * 2,
        ('def f():\n    """Say what it is."""\n    return 2',) * 2,
        ("def f(x):\n    x = 3\n    return locals()",) * 2,
        ("class A:\n    shown = 1\n\ndef f():\n\n    class B:\n        kept = 2\n    return B",)
        * 2,
        ("def f(x):\n    y = 1\n    return f'{y}'",) * 2,
        ("def f(x):\n    unused = 1\n", "def f(x):\n    pass"),
    ],
)
def test_tidying_takes_out_what_does_nothing_and_no_more(text, tidied):
    tree = ast.parse(text)
    tidy(tree)
    assert ast.unparse(tree) == ast.unparse(ast.parse(tidied))


@pytest.mark.parametrize(
    ("loop", "endless"),
    [
        ("while True:\n    x = 1", True),
        ("while 1:\n    pass", True),
        ("while False:\n    pass", False),
        ("while True:\n    if x:\n        break", False),
        ("while True:\n    raise ValueError", False),
        ("while i < n:\n    x = 1", True),
        ("while i < n:\n    i += 1", False),
        ("while items:\n    items.pop()", False),
        ("while items:\n    take(items)", False),
        ("while open_nodes[0]:\n    open_nodes[0] = 0", False),
        ("while more():\n    pass", False),
        ("while self.more:\n    pass", False),
    ],
)
def test_plainly_endless_loops_are_told_from_others(loop, endless):
    node = ast.parse(loop).body[0]
    assert isinstance(node, ast.While)
    assert is_endless(node) is endless


PROGRAM = """import math

def cost(x, scale=2):
    return math.sqrt(x) * scale

def algorithm(items):
    best = 0
    for item in items:
        best = max(best, cost(item))
    return best
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("def algorithm(items)", "def algorithm(items, n)", "signature"),
        ("def algorithm", "def other", "signature"),
        ("scale=2", "scale=3", "signature"),
        ("for item in items:", "while items:\n        item = 1\n        item", "endless"),
        ("cost(item)", "cost(items.size)", "attribute"),
        ("cost(item)", "cost(thing)", "unbound"),
        ("best = 0", "best = 0\n    best = best", "unchanged"),
        ("best = 0", "best = 0" + "\n    items[0] = items[0] + 1" * 60, "size"),
        ("return best", "return best\n    break", ""),
        ("best = 0", "best = 1", ""),
    ],
)
def test_the_screen_names_the_fault_of_a_proposal(old, new, fault):
    verdict = Screen(PROGRAM).judge(ast.parse(PROGRAM.replace(old, new)))
    expected = "unchanged" if new.endswith("break") else fault
    assert verdict.fault == expected
    assert (verdict.source is None) is bool(expected)


def test_what_does_not_compile_is_screened_out():
    tree = ast.parse(PROGRAM)
    tree.body.append(ast.Break())
    assert Screen(PROGRAM).judge(tree).fault == "syntax"


def test_what_cannot_be_written_down_is_screened_out():
    tree = ast.parse(PROGRAM)
    function = tree.body[2]
    assert isinstance(function, ast.FunctionDef)
    function.body.insert(0, ast.Expr(ast.Yield(ast.Starred(ast.Slice(), ast.Load()))))
    assert Screen(PROGRAM).judge(tree).fault in ("text", "syntax")


def test_a_name_that_looks_unbound_in_the_program_itself_is_no_fault():
    loop = "    for i in range(n):\n        if i:\n            print(last)\n        last = i\n"
    program = "def algorithm(n):\n" + loop
    changed = program.replace("range(n)", "range(n + 1)")
    assert Screen(program).judge(ast.parse(changed)).source is not None


def test_what_a_donor_asks_of_a_parameter_may_be_asked():
    donor = PROGRAM.replace("best = 0", "best = items.lowest")
    assert Screen(PROGRAM).judge(ast.parse(donor)).fault == "attribute"
    assert Screen(PROGRAM, [donor]).judge(ast.parse(donor)).fault == ""


@pytest.mark.parametrize("lines", [2, 10, 60, 200, 800])
def test_the_size_limit_is_relative_and_absolute(lines):
    body = "".join(f"    x[{i}] = {i}\n" for i in range(lines))
    program = f"def algorithm(x):\n{body}    return x"
    screen = Screen(program)
    limit = max(len(program), min(max(GROWTH * len(program), ROOM), MOST_CHARS))
    line = "\n    x[0] = x[1]"
    fits = int(limit - len(program)) // len(line)
    for extra, passes in ((fits, fits > 0), (fits + 1, False)):
        grown = program.replace("\n    return x", line * extra + "\n    return x")
        assert (screen.judge(ast.parse(grown)).source is not None) is passes


def test_a_text_that_is_no_program_cannot_be_screened_by():
    with pytest.raises(ValueError, match="does not parse"):
        Screen("def f(:")


def test_programs_that_earn_a_warning_are_programs_and_the_warning_is_not_shown():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse("x = '\\d'") is not None
        assert compiles("x = 5\ny = x is 5\nz = 5()")


def test_absurdly_deep_programs_are_none():
    assert parse("x = " + "-" * 500 + "1") is None
    assert parse("x = " + "(" * 5000) is None
    assert parse("x = 1" + "+1" * 50) is not None
    assert parse("\0") is None


def test_a_clone_shares_no_node_with_its_original():
    tree = ast.parse(PROGRAM)
    copy = clone(tree)
    assert ast.dump(copy) == ast.dump(tree)
    assert not {id(node) for node in nodes(copy)} & {id(node) for node in nodes(tree)}
