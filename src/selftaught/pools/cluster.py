"""The pool of several machines: agents on nodes that come, work, and may be lost.

Everything that matters stays with the host: the store, the budgets, the keys, the language models
and the sessions that serve improvers. What a lost node was scoring is scored elsewhere; what it
was improving is begun again by the pool above, which finds the answers it had in the record.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from selftaught.errors import ClusterUnavailable, SelftaughtError
from selftaught.pool import JOB_LOST, MAX_STARTS, Attempt, Claim, ImproveJob, NodeLost, ScoreJob
from selftaught.pools.gate import Gate
from selftaught.pools.gated import GatedPool
from selftaught.pools.nodes.door import Admitted, Door
from selftaught.pools.nodes.invitation import Invitation
from selftaught.pools.nodes.remote import RemoteNode
from selftaught.utility import Outcome

_LOOK_S = 0.1
# Those who connect and hold no token are told of so often in a run; a network may be full of them.
MAX_STRANGERS_TOLD = 20


class Starter(Protocol):
    """Starts agents on the machines of a cluster, and new ones where machines join it."""

    def expected(self) -> int | None:
        """How many agents were started in all; None while that is not known."""
        ...

    def failure(self) -> str | None:
        """Why no more agents will be started, in a sentence; None while some may be."""
        ...

    def close(self) -> None:
        """End the agents that are left."""
        ...


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a pool deals with its nodes.

    Attributes:
        bind: the address to listen on for agents.
        addresses: under which agents find this machine.
        start_s: seconds to wait for the first node.
        settle_s: seconds to wait for the others, after the first.
        patience_s: seconds to wait for a node when none is left.
        allow_weak_sandbox, allow_network: as of `LocalPool`.
    """

    bind: str = "127.0.0.1"
    addresses: tuple[str, ...] = ("127.0.0.1",)
    start_s: float = 120.0
    settle_s: float = 10.0
    patience_s: float = 300.0
    allow_weak_sandbox: bool = False
    allow_network: bool = False


class ClusterPool(GatedPool):
    """Implements `selftaught.pool.AheadPool` with the agents that a starter starts.

    Args:
        start: begins to start agents that accept the invitation.
        settings: see there.
        on_attempt: told of what candidates tried and may not.
        on_event: told of what happens to nodes: what, in which words, after how many seconds.
        check: raises where the run is told to stop; asked while there is no node.

    Raises:
        ClusterUnavailable: no node could be used.
    """

    def __init__(
        self,
        start: Callable[[Invitation], Starter],
        settings: ClusterSettings,
        *,
        on_attempt: Callable[[str, Attempt], None] | None = None,
        on_event: Callable[[str, str, float], None] = lambda what, detail, seconds: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(Gate(0, over=1), on_attempt)
        self._settings = settings
        self._on_event = on_event
        self._check = check
        self._refused: list[str] = []
        self._strangers = 0
        self._joined = 0
        self._is_settled = False
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._door = Door(
            settings.bind,
            welcome={
                "allow_weak_sandbox": settings.allow_weak_sandbox,
                "allow_network": settings.allow_network,
            },
            on_admitted=self._admit,
            on_refused=self._refuse,
            on_stranger=self._turn_away,
        )
        self._watcher = threading.Thread(target=self._watch, name="nodes", daemon=True)
        self._starter: Starter | None = None
        try:
            self._starter = start(self._door.invitation(settings.addresses))
            self._await_first()
        except BaseException:
            self.close()
            raise
        self._watcher.start()

    @property
    def nodes(self) -> dict[str, int]:
        """The slots of each node that is there now."""
        with self._changed:
            return {node.name: node.slots for node in self._remote()}

    @property
    def token(self) -> str:
        """What agents prove themselves with; made for this pool."""
        return self._door.token

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program on some node, and on another if that one is lost."""
        losses = 0
        while True:
            try:
                return super().score(job)
            except NodeLost as lost:
                self._check_open(lost)
                losses += 1
                if losses == MAX_STARTS:
                    raise ClusterUnavailable(
                        f"Program {job.solution.hash} was lost with the node that scored it "
                        f"{losses} times, the last time since {lost}. `selftaught resume` goes on."
                    ) from lost
                name = f"{job.task.name}, program {job.solution.hash}"
                self._on_event(JOB_LOST, f"{name} is scored anew, since {lost}", 0.0)

    def score_ahead(self, job: ScoreJob, claim: Claim) -> Outcome | None:
        """The same for what nobody has asked for; on a lost node it is given up."""
        try:
            return super().score_ahead(job, claim)
        except NodeLost:
            return None

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improver on some node; see `GatedPool.improve`."""
        try:
            return super().improve(job)
        except NodeLost as lost:
            self._check_open(lost)
            raise

    def _check_open(self, lost: NodeLost) -> None:
        """Raise where nodes are lost because the pool was closed: no job is to be done again."""
        if self._closing.is_set():
            raise ClusterUnavailable("The pool is closed.") from lost

    def close(self) -> None:
        """Let all agents go, with what they started."""
        self._closing.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._gate.fail(ClusterUnavailable("The pool is closed."))
        self._door.close()
        for node in self._remote():
            node.close()
        if self._starter is not None:
            self._starter.close()

    def _remote(self) -> list[RemoteNode]:
        return [node for node in list(self._nodes.values()) if isinstance(node, RemoteNode)]

    def _admit(self, admitted: Admitted) -> None:
        with self._changed:
            self._joined += 1
            is_news = self._is_settled
            name = f"{admitted.name} ({self._joined})"
            node = RemoteNode(admitted.channel, name, admitted.slots, self._lose)
            if self._closing.is_set():
                node.close()
                return
            self._nodes[name] = node
            # Before anything can be lost with it.
            self._gate.open(name, node.slots)
            self._changed.notify_all()
        node.start()
        if is_news:
            slots = f"{node.slots} {'slot' if node.slots == 1 else 'slots'}"
            self._on_event("node_joined", f"{name} with {slots}", 0.0)

    def _refuse(self, name: str, reason: str) -> None:
        with self._changed:
            self._refused.append(f"{name}: {reason}")
            self._changed.notify_all()
        self._on_event("node_refused", f"{name}: {reason}", 0.0)

    def _turn_away(self, address: str, reason: str) -> None:
        """Tell of a stranger. It is no node: whether one is missing does not depend on it."""
        with self._changed:
            self._strangers += 1
            number = self._strangers
        if number <= MAX_STRANGERS_TOLD:
            last = "; more are not told of" if number == MAX_STRANGERS_TOLD else ""
            self._on_event("node_refused", f"{address}: {reason}{last}", 0.0)

    def _lose(self, node: RemoteNode, reason: str) -> None:
        # First, so that no job is sent there and counts as lost with it.
        self._gate.shut(node.name)
        with self._changed:
            self._nodes.pop(node.name, None)
            left = len(self._nodes)
        if not self._closing.is_set():
            self._on_event("node_lost", f"{node.name}: {reason}; {left} left", 0.0)

    def _await_first(self) -> None:
        """Wait until the nodes are there that are expected, or at least some."""
        assert self._starter is not None
        began = first = time.monotonic()
        settings = self._settings
        while True:
            with self._changed:
                self._changed.wait(_LOOK_S)
                is_any = bool(self._nodes)
                known = len(self._nodes) + len(self._refused)
            now = time.monotonic()
            if not is_any:
                first = now
            expected = self._starter.expected()
            is_whole = expected is not None and 0 < expected <= known
            if is_any and (is_whole or now - first > settings.settle_s):
                self._is_settled = True
                return
            failure = self._starter.failure()
            if failure is not None and not is_any:
                raise ClusterUnavailable(failure)
            if is_whole or now - began > settings.start_s:
                raise ClusterUnavailable(self._why_none(now - began))
            self._check()

    def _why_none(self, waited_s: float) -> str:
        reasons = "; ".join(dict.fromkeys(self._refused))
        return (
            f"No node of the cluster can be used: {reasons}."
            if reasons
            else f"No node of the cluster joined the run within {waited_s:.0f} s. Do its machines "
            f"reach this one at {' or '.join(self._settings.addresses)}? host=ADDRESS in --pool "
            "names another address."
        )

    def _watch(self) -> None:
        """While no node is left: wait for one, for a limited time, and say so."""
        began: float | None = None
        while not self._closing.wait(_LOOK_S):
            if self._nodes:
                began = None
                continue
            try:
                if began is None:
                    began = time.monotonic()
                    self._on_event(
                        "waiting_for_nodes",
                        f"none is left; waiting up to {self._settings.patience_s:g} s for one",
                        0.0,
                    )
                self._check()
                self._check_patience(time.monotonic() - began)
            except SelftaughtError as stop:
                # Whatever it is: nobody else looks, and who waits would do so for ever.
                self._gate.fail(stop)

    def _check_patience(self, waited_s: float) -> None:
        patience_s = self._settings.patience_s
        failure = self._starter.failure() if self._starter is not None else None
        if failure is None and waited_s <= patience_s:
            return
        why = failure or f"None came within {patience_s:g} s."
        raise ClusterUnavailable(
            f"No node of the cluster is left. {why} What is recorded is kept: "
            "`selftaught resume` goes on when there are nodes again."
        )
