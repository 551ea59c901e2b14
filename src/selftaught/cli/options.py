"""The options that several commands share, and how they become typed parts."""

from typing import Annotated

import typer

from selftaught.budget import Budget, RunLimits
from selftaught.runs.launch import DEFAULT_STORE

Store = Annotated[
    str,
    typer.Option(
        "--store", metavar="FILE|URL", help="Where runs are kept: a file, or postgresql://…."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, progress on stderr.")
]
Seed = Annotated[int, typer.Option("--seed", help="All luck of a run follows from it.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="What proposes programs: mutation, mutation-first-order, openai/NAME.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="Any OpenAI-compatible server."),
]
Calls = Annotated[
    int, typer.Option("--calls", help="Language model calls of one application of an improver.")
]
Responses = Annotated[int, typer.Option("--responses", help="Responses that one call may ask for.")]
UtilityCalls = Annotated[
    int | None,
    typer.Option(
        "--utility-calls",
        help="Scores of one application; calls x responses + 1 where left out.",
    ),
]
Tokens = Annotated[int | None, typer.Option("--tokens", help="Tokens that the whole run may use.")]
Dollars = Annotated[
    float | None, typer.Option("--dollars", help="Money that the whole run may spend.")
]
Wall = Annotated[float | None, typer.Option("--wall", help="Seconds that the whole run may take.")]
Repeats = Annotated[
    int,
    typer.Option("--repeats", help="How often each task is met, with other instances and luck."),
]
SealedRepeats = Annotated[
    int,
    typer.Option("--sealed-repeats", help="The same, on sealed test instances."),
]
Slots = Annotated[
    int | None,
    typer.Option("--slots", help="Jobs that compute at once; one per core where left out."),
]
Weak = Annotated[
    bool,
    typer.Option(
        "--allow-weak-sandbox",
        help="Go on, at your risk, where `doctor` finds isolation layers missing.",
    ),
]

STORE = DEFAULT_STORE


def budget(calls: int, responses: int, utility_calls: int | None) -> Budget:
    """The budget of one application; utility calls cover every response by default."""
    if utility_calls is None:
        utility_calls = max(1, calls * responses + 1)
    return Budget(calls=calls, responses=responses, utility_calls=utility_calls)


def limits(tokens: int | None, dollars: float | None, wall: float | None) -> RunLimits:
    """The limits of the whole run."""
    return RunLimits(tokens=tokens, dollars=dollars, wall_s=wall)


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list; `none` or nothing is the empty one."""
    if text.strip().lower() in ("", "none"):
        return ()
    return tuple(part.strip() for part in text.split(",") if part.strip())
