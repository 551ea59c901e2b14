"""A pool over nodes: a gate decides what runs next, and where."""

import threading
import time
from collections.abc import Callable

from selftaught.errors import SandboxUnavailable
from selftaught.pool import Attempt, Claim, ImproveJob, NodeLost, ScoreJob
from selftaught.pools.gate import HERE, Gate, Ticket, Urgency
from selftaught.pools.machine import Node
from selftaught.pools.session import Session
from selftaught.pools.turns import converse
from selftaught.utility import Outcome

# A score that nobody can ask for any more gets this long to end by itself, which leaves a record
# of it and spares the start of an evaluator.
ABANDON_S = 2.0
# How much the latest score of a task tells about the next one, against all before it.
_NEWEST = 0.2


class GatedPool:
    """Implements `selftaught.pool.AheadPool`, but for the end, over the nodes of `nodes`.

    A slot is a core's worth of work. It is held while a candidate is scored or an improver
    computes, and by nobody who waits.

    Args:
        gate: grants slots; its places are the names of nodes.
        on_attempt: told of what candidates tried and may not.
    """

    def __init__(
        self, gate: Gate, on_attempt: Callable[[str, Attempt], None] | None = None
    ) -> None:
        self._gate = gate
        self._nodes: dict[str, Node] = {}
        self._on_attempt = on_attempt or (lambda program, attempt: None)
        self._usual_s: dict[tuple[str, str], float] = {}

    @property
    def slots(self) -> int:
        """Jobs that compute at once."""
        return self._gate.slots

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program on a node; see `selftaught.pool.Pool.score`.

        Raises:
            SelftaughtError: the node or its operator does not give what the task permits.
        """
        expected_s = self._expected_s(job)
        with self._gate.slot(Urgency.ASKED, share=job.share, expected_s=expected_s) as ticket:
            return self._score(job, self._node(ticket))

    def score_ahead(self, job: ScoreJob, claim: Claim) -> Outcome | None:
        """Score a program that may be asked for; see `selftaught.pool.AheadPool.score_ahead`."""
        expected_s = self._expected_s(job)
        with self._gate.slot(Urgency.AHEAD, share=job.share, expected_s=expected_s) as ticket:
            underway = _Underway(self._gate, ticket)
            if not claim(underway):
                return None
            try:
                return self._score(job, self._node(ticket), underway)
            except SandboxUnavailable:
                if underway.was_ended:
                    return None
                raise

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improver in a sandbox of its own; see `selftaught.pool.Pool.improve`.

        Raises:
            NodeLost: its node is gone.
        """
        share = job.improver.hash
        with self._gate.slot(Urgency.TURN, share=share) as ticket:
            place = ticket.place
            turns = self._node(ticket).fork(job.improver.source)
        return converse(
            turns, Session(job), lambda: self._gate.slot(Urgency.TURN, share=share, bound=place)
        )

    def _score(self, job: ScoreJob, node: Node, underway: "_Underway | None" = None) -> Outcome:
        """Score on a node; a slot is held."""
        began = time.monotonic()
        outcome, attempts = node.score(job, underway)
        self._took(job, time.monotonic() - began)
        for attempt in attempts:
            self._on_attempt(job.solution.hash, attempt)
        return outcome

    def _node(self, ticket: Ticket) -> Node:
        place = HERE if ticket.place is None else ticket.place
        node = self._nodes.get(place)
        if node is None:
            raise NodeLost(f"{place} is gone")
        return node

    def _expected_s(self, job: ScoreJob) -> float:
        return self._usual_s.get((job.task.digest, job.split), 0.0)

    def _took(self, job: ScoreJob, seconds: float) -> None:
        kind = job.task.digest, job.split
        before = self._usual_s.get(kind, seconds)
        self._usual_s[kind] = before + _NEWEST * (seconds - before)


class _Underway:
    """Implements `selftaught.pool.Underway` and `Interruptible` for one score."""

    def __init__(self, gate: Gate, ticket: Ticket) -> None:
        self._gate = gate
        self._ticket = ticket
        self._end_it: Callable[[], None] | None = None
        self._is_overdue = False
        self._lock = threading.Lock()
        self.was_ended = False

    def begin(self, end: Callable[[], None]) -> None:
        """See `Interruptible`."""
        with self._lock:
            self._end_it = end
            self._end_if_overdue()

    def done(self) -> None:
        """See `Interruptible`."""
        with self._lock:
            self._end_it = None

    def promote(self) -> None:
        """See `selftaught.pool.Underway`."""
        self._gate.promote(self._ticket)

    def abandon(self) -> None:
        """End it if it still lasts after ABANDON_S, with its evaluator.

        Where it waits for an evaluator even then, it is ended as soon as it has one.
        """
        timer = threading.Timer(ABANDON_S, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        with self._lock:
            self._is_overdue = True
            self._end_if_overdue()

    def _end_if_overdue(self) -> None:
        is_wanted = not self._is_overdue or self._ticket.urgency is not Urgency.AHEAD
        if self._end_it is not None and not is_wanted:
            self.was_ended = True
            self._end_it()
