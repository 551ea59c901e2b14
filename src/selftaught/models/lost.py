"""Requests that are about to be sent, and those that brought no answer and may have to be paid.

A model that keeps requests waiting says here when it sends one: a process that dies meanwhile has
recorded what it may have to pay. It says too how a request failed: it was refused and costs
nothing, or it ran into its time limit, broke off, or was answered with what is of no use. Who asked
the model hears of it before the request is repeated: what it may have cost is counted, and as much
is set aside for the repetition. Where the call fails, all its other requests may have to be paid:
their answers came and are of no use, or are still on their way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Listener(Protocol):
    """Hears of the requests of one call, from whichever thread makes them."""

    def note_sent(self, n_responses: int) -> None:
        """A request for so many responses is about to be sent."""
        ...

    def note_refused(self, n_responses: int) -> None:
        """So many responses of a request that was sent were refused, and cost nothing."""
        ...

    def note_lost(self, n_responses: int) -> None:
        """A request that was sent was lost, and may have to be paid."""
        ...


_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


def announces_requests(model: object) -> bool:
    """Whether a model calls `note_request` before each request that it sends."""
    return bool(getattr(model, "announces_requests", False))


# Each is to be called in the context of the call: in its thread, or within `side_by_side`.


def note_request(n_responses: int) -> None:
    """Say that a request for so many responses is about to be sent.

    Raises:
        StoreError: it cannot be recorded, so it is not to be sent.
        ModelUnreachable: the call has failed meanwhile, so it is not to be sent.
    """
    listener = _listener.get()
    if listener is not None:
        listener.note_sent(n_responses)


def note_refused_request(n_responses: int) -> None:
    """Say that so many responses of a request were refused: they cost nothing."""
    listener = _listener.get()
    if listener is not None:
        listener.note_refused(n_responses)


def note_lost_request(n_responses: int) -> None:
    """Say that a request was lost and may have to be paid.

    Raises:
        RunBudgetSpent: the run cannot pay for a repetition.
        Interrupted: the run is told to stop.
    """
    listener = _listener.get()
    if listener is not None:
        listener.note_lost(n_responses)


@contextmanager
def requests_told_to(listener: Listener) -> Iterator[None]:
    """Within this, a listener hears of what becomes of requests."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
