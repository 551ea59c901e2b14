"""Which strategies an improver's calls show: which answer went into which prompt.

A program's text can hide what it does, in names, in code that never runs, in code that is built at
run time. Its requests cannot: the host saw each prompt and each answer.
"""

from collections.abc import Sequence

import msgspec

from selftaught.fences import extract_code

# A shorter program may be in a prompt by accident.
_MIN_CHARS = 40


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the model and its answers, in the order of the job."""

    expertise: str
    message: str
    temperature: float
    answers: tuple[str, ...]


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into what.

    Attributes:
        parents: for each exchange the earlier answers, as (exchange, answer), whose program its
            message holds.
        depth: for each exchange how many answers lie before it in a line; 0 where it holds none.
        is_from_initial: for each exchange whether its message holds the initial program.
    """

    parents: tuple[tuple[tuple[int, int], ...], ...]
    depth: tuple[int, ...]
    is_from_initial: tuple[bool, ...]


def trace(exchanges: Sequence[Exchange], initial: str) -> Trace:
    """Follow programs from answers into later prompts.

    Args:
        exchanges: of one job, in order.
        initial: the program that the improver was given.
    """
    programs: list[tuple[tuple[int, int], str]] = []
    parents: list[tuple[tuple[int, int], ...]] = []
    depth: list[int] = []
    for number, exchange in enumerate(exchanges):
        held = [(where, code) for where, code in programs if code in exchange.message]
        # A program within another one that is held is not held for itself; equal ones count once.
        held = [
            (where, code)
            for place, (where, code) in enumerate(held)
            if not any(
                code in other and (code != other or place > before)
                for before, (_, other) in enumerate(held)
                if before != place
            )
        ]
        parents.append(tuple(where for where, _ in held))
        depth.append(max((depth[where[0]] + 1 for where, _ in held), default=0))
        for place, answer in enumerate(exchange.answers):
            code = extract_code(answer)
            if code is not None and len(code.strip()) >= _MIN_CHARS:
                programs.append(((number, place), code.strip()))
    start = initial.strip()
    return Trace(
        parents=tuple(parents),
        depth=tuple(depth),
        is_from_initial=tuple(start in exchange.message for exchange in exchanges),
    )


def strategies_of(exchanges: Sequence[Exchange], initial: str) -> dict[str, str]:
    """The strategies that a job's exchanges show, each with what shows it."""
    found: dict[str, str] = {}
    seen = trace(exchanges, initial)
    deepest = max(seen.depth, default=0)
    answers = sum(len(exchange.answers) for exchange in exchanges)
    if deepest:
        found["refinement"] = f"answers went into prompts up to {deepest} times in a row"
    elif answers > 1:
        found["best_of_n"] = f"{answers} answers, none of which went into a prompt"
    merged = sum(len(parents) > 1 for parents in seen.parents)
    if merged:
        found["ensembles"] = f"prompts that held several answers: {merged}"
    again = [
        number
        for number in range(1, len(exchanges))
        if seen.is_from_initial[number] and not seen.parents[number] and any(seen.depth[:number])
    ]
    if again:
        found["restarts"] = f"prompts that began from the initial program again: {len(again)}"
    levels: dict[int, set[tuple[int, int]]] = {}
    for number, parents in enumerate(seen.parents):
        levels.setdefault(seen.depth[number], set()).update(parents[:1])
    wide = [level for level, held in levels.items() if level and len(held) > 1]
    if len(wide) > 1:
        found["beam"] = f"{len(wide)} steps refined several programs side by side"
    temperatures = {exchange.temperature for exchange in exchanges}
    if len(temperatures) > 1:
        found["temperature_schedule"] = f"{len(temperatures)} temperatures"
    roles = {exchange.expertise for exchange in exchanges}
    if len(roles) > 1:
        found["personas"] = f"{len(roles)} roles"
    return found
