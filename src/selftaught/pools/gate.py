"""Who gets the next slot: the gate of a pool.

Turns of improvers come first, since everything else follows from them and they are short. Then
the scores that somebody waits for, then what nobody has asked for yet. Among equals the one goes
first on whose behalf the slots were held the least (so improvers that are compared get equal
shares), then the job that is expected to take longest (a long one begun last would hold up all).

Nobody who was asked for starves: one that others overtook MAX_OVERTAKEN times is next.

Slots lie at places: one for a pool of this machine, one for each node of a cluster. Who does not
care gets a slot where most are free. The turn of an improver is bound to the place of its process.
"""

import enum
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from selftaught.pool import NodeLost

MAX_OVERTAKEN = 64
HERE = ""


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
        bound: the only place where it is of use; None for any.
        place: where the slot is; None while there is none.
        granted: set when there is a slot, or an error.
        error: why there will be none.
    """

    def __init__(
        self, urgency: Urgency, share: str, expected_s: float, number: int, bound: str | None
    ) -> None:
        self.urgency = urgency
        self.share = share
        self.expected_s = expected_s
        self.number = number
        self.bound = bound
        self.overtaken = 0
        self.granted_at = 0.0
        self.granted = threading.Event()
        self.place: str | None = None
        self.error: Exception | None = None


class _Share:
    """What was used on one behalf, while anybody waits for or holds a slot on it."""

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.tickets = 0


class Gate:
    """Grants the slots of places. Thread-safe.

    Work that nobody asked for never holds the last slot, so that what is asked for next, and the
    turn that asks for it, find one free. A gate of one slot therefore grants none to it.

    Args:
        slots: how many may be held at once at the place HERE; 0 for a gate whose places are opened
            later.
        clock: seconds, for the accounts of shares.
        over: slots beyond its own that a place gives to the turns bound to it. They are short, and
            cannot go elsewhere when the place is full.
    """

    def __init__(
        self, slots: int, clock: Callable[[], float] = time.monotonic, *, over: int = 0
    ) -> None:
        self._clock = clock
        self._over = over
        self._sizes = {HERE: slots} if slots else {}
        self._free = dict(self._sizes)
        self._ahead = 0
        self._count = 0
        self._error: Exception | None = None
        self._waiting: list[Ticket] = []
        self._shares: dict[str, _Share] = {}
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """How many there are, at all places."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def is_idle(self) -> bool:
        """Whether all slots are free."""
        with self._lock:
            return self._free == self._sizes

    def open(self, place: str, slots: int) -> None:
        """Add a place with its slots; what failed before goes on."""
        with self._lock:
            self._sizes[place] = self._free[place] = slots
            self._error = None
            self._grant()

    def shut(self, place: str) -> None:
        """Take a place away. Who waits for it in particular gets NodeLost."""
        with self._lock:
            self._sizes.pop(place, None)
            self._free.pop(place, None)
            for ticket in [one for one in self._waiting if one.bound == place]:
                self._refuse(ticket, NodeLost(f"{place} is gone"))

    def fail(self, error: Exception) -> None:
        """Give up all who wait, and who come later, with an error, until a place opens."""
        with self._lock:
            self._error = error
            for ticket in list(self._waiting):
                self._refuse(ticket, error)

    @contextmanager
    def slot(
        self,
        urgency: Urgency,
        *,
        share: str = "",
        expected_s: float = 0.0,
        bound: str | None = None,
    ) -> Iterator[Ticket]:
        """Hold a slot; waits until one is granted.

        Raises:
            NodeLost: the place that it is bound to is gone.
            SelftaughtError: what `fail` was told.
        """
        ticket = self.enter(urgency, share=share, expected_s=expected_s, bound=bound)
        try:
            ticket.granted.wait()
            if ticket.error is not None:
                raise ticket.error
            yield ticket
        finally:
            self.leave(ticket)

    def enter(
        self,
        urgency: Urgency,
        *,
        share: str = "",
        expected_s: float = 0.0,
        bound: str | None = None,
    ) -> Ticket:
        """Ask for a slot without waiting; `granted` is set when there is one."""
        with self._lock:
            self._count += 1
            ticket = Ticket(urgency, share, expected_s, self._count, bound)
            if share not in self._shares:
                # Who comes new, or again, has no claim to what others used in the meantime.
                least_s = min((one.used_s for one in self._shares.values()), default=0.0)
                self._shares[share] = _Share(least_s)
            self._shares[share].tickets += 1
            self._waiting.append(ticket)
            if self._error is not None:
                self._refuse(ticket, self._error)
            elif bound is not None and bound not in self._sizes:
                self._refuse(ticket, NodeLost(f"{bound} is gone"))
            self._grant()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a slot back, or the wish for one up."""
        with self._lock:
            share = self._shares[ticket.share]
            if ticket.place is not None:
                if ticket.place in self._free:
                    self._free[ticket.place] += 1
                self._ahead -= ticket.urgency is Urgency.AHEAD
                share.used_s += self._clock() - ticket.granted_at - ticket.expected_s
            elif ticket.error is None:
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
                self._ahead -= ticket.place is not None
                self._grant()

    def _refuse(self, ticket: Ticket, error: Exception) -> None:
        self._waiting.remove(ticket)
        ticket.error = error
        ticket.granted.set()

    def _grant(self) -> None:
        while (ticket := self._next()) is not None:
            self._waiting.remove(ticket)
            for other in self._waiting:
                other.overtaken += other.number < ticket.number
            ticket.place = self._freest() if ticket.bound is None else ticket.bound
            self._free[ticket.place] -= 1
            self._ahead += ticket.urgency is Urgency.AHEAD
            # What it is expected to take counts at once, so that others get the next slot.
            self._shares[ticket.share].used_s += ticket.expected_s
            ticket.granted_at = self._clock()
            ticket.granted.set()

    def _freest(self) -> str:
        return max(self._free, key=lambda place: self._free[place])

    def _next(self) -> Ticket | None:
        if not self._free:
            return None
        is_any_free = self._free[self._freest()] > 0
        possible = [one for one in self._waiting if self._has_room(one, is_any_free)]
        asked = [ticket for ticket in possible if ticket.urgency is not Urgency.AHEAD]
        overdue = [ticket for ticket in asked if ticket.overtaken >= MAX_OVERTAKEN]
        if overdue:
            return min(overdue, key=lambda ticket: ticket.number)
        if not asked and self._ahead >= sum(self._sizes.values()) - 1:
            return None
        return min(asked or possible, key=self._rank, default=None)

    def _has_room(self, ticket: Ticket, is_any_free: bool) -> bool:
        if ticket.bound is None:
            return is_any_free
        return self._free[ticket.bound] > -self._over

    def _rank(self, ticket: Ticket) -> tuple[int, float, float, int]:
        used_s = self._shares[ticket.share].used_s
        return ticket.urgency, used_s, -ticket.expected_s, ticket.number
