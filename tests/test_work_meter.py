"""The work meter counts the same on every run and changes nothing else."""

import pytest

from selftaught.sandbox.guest import work


def run(source: str, limit: int = 1000) -> object:
    meter = work.Meter(limit)
    names: dict[str, object] = {work.TICK: meter.tick}
    exec(work.instrument(source, "<test>"), names)
    return names["f"]()  # type: ignore[operator]


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    while True: pass",
        "def f():\n    for i in range(10**9): pass",
        "def f():\n    return [i for i in range(10**9)]",
        "def f():\n    return sum(i for i in range(10**9))",
        "def f():\n    return {i: i for i in range(10**9)}",
        "def f():\n    import itertools\n    g = lambda n: n\n    return max(map(g, itertools.count()))",
        "def f():\n    while True:\n        try: pass\n        except Exception: pass",
    ],
)
def test_every_kind_of_loop_is_counted(source: str) -> None:
    with pytest.raises(work.WorkLimitReached, match="1,000"):
        run(source)


def test_the_count_is_of_loop_passes_and_calls() -> None:
    source = "def f():\n    for i in range(100): pass\n    return i"
    assert run(source, 101) == 99
    with pytest.raises(work.WorkLimitReached):
        run(source, 100)


def test_a_reached_limit_is_remembered_though_the_program_swallows_it() -> None:
    meter = work.Meter(3)
    names: dict[str, object] = {work.TICK: meter.tick}
    source = (
        "def f():\n    try:\n        while True: pass\n    except BaseException:\n        return 1"
    )
    exec(work.instrument(source, "<test>"), names)
    assert names["f"]() == 1  # type: ignore[operator]
    assert meter.reached


def test_instrumenting_changes_no_result_and_no_line() -> None:
    source = '''
def f():
    """Docstring."""
    from functools import reduce
    total = reduce(lambda a, b: a + b, [x * y for x in range(5) if x % 2 for y in range(3)], 0)
    squares = {k: v for k, v in zip("ab", (n * n for n in range(2)))}
    def g(*a, k=3, **kw):
        yield from (x + k for x in a)
    try:
        1 / 0
    except ZeroDivisionError as error:
        line = error.__traceback__.tb_lineno
    return total, squares, list(g(1, 2)), f.__doc__, line
'''
    names: dict[str, object] = {}
    exec(source, names)
    assert run(source) == names["f"]()  # type: ignore[operator]
