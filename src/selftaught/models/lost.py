"""Requests that are about to be sent, and those that brought no answer and may have to be paid.

A model that keeps requests waiting says here when it sends one: a process that dies meanwhile has
recorded what it may have to pay. A model that repeats requests says so before it repeats one that
was sent and then ran into its time limit, broke off, or was answered with what is of no use. Who
asked the model hears of it: what the request may have cost is counted, and as much is set aside for
the repetition.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_tell: ContextVar[Callable[[int], None] | None] = ContextVar("_tell", default=None)
_tell_sent: ContextVar[Callable[[], None] | None] = ContextVar("_tell_sent", default=None)


def announces_requests(model: object) -> bool:
    """Whether a model calls `note_request` before each request that it sends."""
    return bool(getattr(model, "announces_requests", False))


def note_request() -> None:
    """Say that a request is about to be sent; to be called where `note_lost_request` is.

    Raises:
        StoreError: it cannot be recorded, so it is not to be sent.
    """
    tell = _tell_sent.get()
    if tell is not None:
        tell()


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
def requests_told_to(sent: Callable[[], None], lost: Callable[[int], None]) -> Iterator[None]:
    """Within this, `sent` hears of each request, `lost` of each lost one with its responses."""
    tokens = _tell_sent.set(sent), _tell.set(lost)
    try:
        yield
    finally:
        _tell_sent.reset(tokens[0])
        _tell.reset(tokens[1])
