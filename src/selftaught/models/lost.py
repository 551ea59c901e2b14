"""Requests that brought no answer and may have to be paid all the same.

A model that repeats requests says so here, before it repeats one that was sent and then ran into
its time limit, broke off, or was answered with what is of no use. Who asked the model hears of it:
what the request may have cost is counted, and as much is set aside for the repetition.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_tell: ContextVar[Callable[[int], None] | None] = ContextVar("_tell", default=None)


def note_lost_request(n_responses: int) -> None:
    """Say that a request for so many responses was lost and may have to be paid.

    To be called in the context of the call: in its thread, or within `side_by_side`.

    Raises:
        RunBudgetSpent: the run cannot pay for a repetition.
        Interrupted: the run is told to stop.
    """
    tell = _tell.get()
    if tell is not None:
        tell(n_responses)


@contextmanager
def lost_requests_told_to(tell: Callable[[int], None]) -> Iterator[None]:
    """Within this, `tell` hears of each lost request, with the responses it was for."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)
