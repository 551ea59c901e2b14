"""Who may send a request now: as many at once as the endpoint bears, and one while it is down."""

import threading
import time
from collections.abc import Callable

import msgspec

from selftaught.errors import ModelUnreachable
from selftaught.models.failures import PassingTrouble

# So many failures in a row, over all requests, mean that the endpoint is down.
FAILURES = 5
MAX_PROBE_WAIT_S = 60.0
# So often does whoever waits look whether the run was stopped.
LOOK_S = 0.2


class Ticket(msgspec.Struct, frozen=True):
    """The right to send one request; handed back when it is over.

    Attributes:
        who: the request.
        is_probe: whether it is sent to see if the endpoint is back.
        era: counts how often the endpoint had been overloaded by then.
    """

    who: str
    is_probe: bool
    era: int


class Failed(msgspec.Struct, frozen=True):
    """What follows from a failed request.

    Attributes:
        held_s: None: the request may be repeated. Else the endpoint is taken to be down: the
            request is held until it is back, and this is in how many seconds it is tried next.
        narrowed_to: how many requests may be under way from now on, where that changed.
    """

    held_s: float | None
    narrowed_to: int | None


class Gate:
    """Lets requests through. Thread-safe; waits end with `close` or by what `check` raises.

    Width: an overload halves the number of requests that may be under way, once for all that
    were under way together; answers widen it again, by one for each round of them.

    Pause: after FAILURES failures in a row of an endpoint that has answered before, requests
    wait. One at a time goes through as a probe, after waits that double up to MAX_PROBE_WAIT_S;
    the first answer of any kind opens the gate for all.

    Args:
        width: requests under way at once, at most.
        patience_s: how long a pause may last.
        first_wait_s: before the first probe.
        check: raises where waiting must end; called several times a second while one waits.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        width: int,
        patience_s: float,
        first_wait_s: float,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = width
        self._width = float(width)
        self._patience_s = patience_s
        self._first_wait_s = first_wait_s
        self._check = check
        self._clock = clock
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        # Apart, so that a turn that has come free wakes nobody who waits for a time.
        self._sleeping = threading.Condition(lock)
        self._closed = False
        self._under_way = 0
        self._waiting = 0
        self._era = 0
        self._has_answered = False
        self._failures = 0
        self._last_trouble = ""
        self._paused_at: float | None = None
        self._probe_at = 0.0
        self._probe_wait_s = first_wait_s
        self._probing = False
        self._last_probe = ""

    def close(self) -> None:
        """End all waits, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._sleeping.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def enter(self, who: str) -> Ticket:
        """Wait until a request may be sent.

        Raises:
            GateClosed: by `close`.
            ModelUnreachable: a pause has lasted for longer than patience allows.
        """
        with self._changed:
            while True:
                if self._closed:
                    raise GateClosed
                self._check()
                wait_s = self._wait_s(who)
                if wait_s <= 0:
                    break
                self._waiting += 1
                try:
                    self._changed.wait(min(wait_s, LOOK_S))
                finally:
                    self._waiting -= 1
            self._under_way += 1
            is_probe = self._paused_at is not None
            self._probing = self._probing or is_probe
            return Ticket(who, is_probe, self._era)

    def sleep(self, seconds: float) -> None:
        """Wait for a time, as `enter` does for a turn."""
        until = self._clock() + seconds
        with self._sleeping:
            while True:
                if self._closed:
                    raise GateClosed
                self._check()
                left_s = until - self._clock()
                if left_s <= 0:
                    return
                self._sleeping.wait(min(left_s, LOOK_S))

    def answered(self, ticket: Ticket) -> float | None:
        """A request was answered, were it by a refusal; return the seconds of a pause it ended."""
        with self._changed:
            self._done(ticket)
            self._has_answered = True
            self._failures = 0
            self._width = min(self._most, self._width + 1 / self._width)
            if self._paused_at is None:
                # Two, since the width may have grown.
                self._changed.notify(2)
                return None
            seconds = self._clock() - self._paused_at
            self._paused_at = None
            self._changed.notify_all()
            return seconds

    def failed(self, ticket: Ticket, trouble: PassingTrouble) -> Failed:
        """A request failed in a way that may pass."""
        with self._changed:
            self._done(ticket)
            self._failures += 1
            self._last_trouble = trouble.says
            narrowed = self._narrow(ticket) if trouble.is_overload else None
            now = self._clock()
            if self._paused_at is None:
                if self._has_answered and self._failures >= FAILURES:
                    self._paused_at = now
                    self._probe_wait_s = self._first_wait_s
                    self._await_probe(now, trouble)
            elif ticket.is_probe:
                self._last_probe = ticket.who
                self._probe_wait_s = min(MAX_PROBE_WAIT_S, 2 * self._probe_wait_s)
                self._await_probe(now, trouble)
            self._changed.notify(2)
            held = None if self._paused_at is None else max(0.0, self._probe_at - now)
            return Failed(held, narrowed)

    def abandoned(self, ticket: Ticket) -> None:
        """A request ended in a way that says nothing about the endpoint."""
        with self._changed:
            self._done(ticket)
            self._changed.notify(2)

    def _done(self, ticket: Ticket) -> None:
        self._under_way -= 1
        if ticket.is_probe:
            self._probing = False

    def _narrow(self, ticket: Ticket) -> int | None:
        if ticket.era < self._era or self._width <= 1:
            return None
        self._era += 1
        before, self._width = int(self._width), max(1.0, self._width / 2)
        return int(self._width) if int(self._width) < before else None

    def _await_probe(self, now: float, trouble: PassingTrouble) -> None:
        self._probe_at = now + max(self._probe_wait_s, trouble.retry_after_s or 0.0)

    def _wait_s(self, who: str) -> float:
        if self._paused_at is None:
            return 0.0 if self._under_way < int(self._width) else LOOK_S
        now = self._clock()
        if now - self._paused_at > self._patience_s:
            raise ModelUnreachable(
                f"The model has not answered for {now - self._paused_at:,.0f} s, and patience is "
                f"set to {self._patience_s:,.0f} s; at last {self._last_trouble}. When it is "
                "back, `selftaught resume` goes on; nothing is asked twice."
            )
        if self._probing or (who == self._last_probe and self._waiting):
            # One that fails by its own fault must not keep the others from trying.
            return LOOK_S
        return self._probe_at - now


class GateClosed(Exception):
    """The gate was closed while a request waited at it, or before."""
