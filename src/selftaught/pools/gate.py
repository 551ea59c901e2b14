"""Who gets the next slot: the gate of a pool.

Turns of improvers come first, since everything else follows from them and they are short. Then
the scores that somebody waits for, then what nobody has asked for yet. Among equals the one goes
first on whose behalf the slots were held the least (so improvers that are compared get equal
shares), then the job that is expected to take longest (a long one begun last would hold up all).

Nobody who was asked for starves: one that others overtook MAX_OVERTAKEN times is next.
"""

import enum
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MAX_OVERTAKEN = 64


class Urgency(enum.IntEnum):
    """What a slot is wanted for, the most urgent first."""

    TURN = 0
    ASKED = 1
    AHEAD = 2


class Ticket:
    """A wish for a slot, and the slot once it is granted.

    Attributes:
        urgency: may rise while the slot is held: see `Gate.promote`.
        share: on whose behalf.
        expected_s: how long it will be held.
    """

    def __init__(self, urgency: Urgency, share: str, expected_s: float, number: int) -> None:
        self.urgency = urgency
        self.share = share
        self.expected_s = expected_s
        self.number = number
        self.overtaken = 0
        self.granted_at = 0.0
        self.granted = threading.Event()


class _Share:
    """What was used on one behalf, while anybody waits for or holds a slot on it."""

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.tickets = 0


class Gate:
    """Grants a fixed number of slots. Thread-safe.

    Work that nobody asked for never holds the last slot, so that what is asked for next, and the
    turn that asks for it, find one free. A gate of one slot therefore grants none to it.

    Args:
        slots: how many may be held at once.
        clock: seconds, for the accounts of shares.
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self._clock = clock
        self._free = slots
        self._ahead = 0
        self._count = 0
        self._waiting: list[Ticket] = []
        self._shares: dict[str, _Share] = {}
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether all slots are free."""
        with self._lock:
            return self._free == self.slots

    @contextmanager
    def slot(
        self, urgency: Urgency, *, share: str = "", expected_s: float = 0.0
    ) -> Iterator[Ticket]:
        """Hold a slot; waits until one is granted."""
        ticket = self.enter(urgency, share=share, expected_s=expected_s)
        try:
            ticket.granted.wait()
            yield ticket
        finally:
            self.leave(ticket)

    def enter(self, urgency: Urgency, *, share: str = "", expected_s: float = 0.0) -> Ticket:
        """Ask for a slot without waiting; `granted` is set when there is one."""
        with self._lock:
            self._count += 1
            ticket = Ticket(urgency, share, expected_s, self._count)
            if share not in self._shares:
                # Who comes new, or again, has no claim to what others used in the meantime.
                least_s = min((one.used_s for one in self._shares.values()), default=0.0)
                self._shares[share] = _Share(least_s)
            self._shares[share].tickets += 1
            self._waiting.append(ticket)
            self._grant()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a slot back, or the wish for one up."""
        with self._lock:
            share = self._shares[ticket.share]
            if ticket.granted.is_set():
                self._free += 1
                self._ahead -= ticket.urgency is Urgency.AHEAD
                share.used_s += self._clock() - ticket.granted_at - ticket.expected_s
            else:
                self._waiting.remove(ticket)
            share.tickets -= 1
            if not share.tickets:
                del self._shares[ticket.share]
            self._grant()

    def promote(self, ticket: Ticket) -> None:
        """Count what was begun ahead as asked for from now on."""
        with self._lock:
            if ticket.urgency is Urgency.AHEAD:
                ticket.urgency = Urgency.ASKED
                self._ahead -= ticket.granted.is_set()
                self._grant()

    def _grant(self) -> None:
        while self._waiting and self._free and (ticket := self._next()) is not None:
            self._waiting.remove(ticket)
            for other in self._waiting:
                other.overtaken += other.number < ticket.number
            self._free -= 1
            self._ahead += ticket.urgency is Urgency.AHEAD
            # What it is expected to take counts at once, so that others get the next slot.
            self._shares[ticket.share].used_s += ticket.expected_s
            ticket.granted_at = self._clock()
            ticket.granted.set()

    def _next(self) -> Ticket | None:
        if len(self._waiting) == 1 and self._waiting[0].urgency is not Urgency.AHEAD:
            # Most turns find nobody else waiting.
            return self._waiting[0]
        asked = [ticket for ticket in self._waiting if ticket.urgency is not Urgency.AHEAD]
        overdue = [ticket for ticket in asked if ticket.overtaken >= MAX_OVERTAKEN]
        if overdue:
            return min(overdue, key=lambda ticket: ticket.number)
        if not asked and self._ahead >= self.slots - 1:
            return None
        return min(asked or self._waiting, key=self._rank, default=None)

    def _rank(self, ticket: Ticket) -> tuple[int, float, float, int]:
        used_s = self._shares[ticket.share].used_s
        return ticket.urgency, used_s, -ticket.expected_s, ticket.number
