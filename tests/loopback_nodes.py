"""Nodes of a cluster on this machine: agents as processes, which tests end as they like."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from selftaught.pools.cluster import ClusterPool, ClusterSettings
from selftaught.pools.nodes.invitation import AgentStart, Invitation

_AGENT = "import sys; from selftaught.pools.nodes.agent import main; sys.exit(main())"


class LoopbackNodes:
    """Implements `selftaught.pools.cluster.Starter`.

    Args:
        count: agents at the start.
        slots: of each.
        before: what an agent's process runs before it is one.
    """

    def __init__(self, count: int, slots: int = 1, before: str = "") -> None:
        self.before = before
        self.count = count
        self.slots = slots
        self.invitation: Invitation | None = None
        self.agents: list[subprocess.Popen[bytes]] = []
        self.failed: str | None = None

    def __call__(self, invitation: Invitation) -> "LoopbackNodes":
        self.invitation = invitation
        for _ in range(self.count):
            self.add()
        return self

    def add(self, **changes: Any) -> subprocess.Popen[bytes]:
        """One more agent; changes are those of its invitation."""
        assert self.invitation is not None
        invitation = msgspec.structs.replace(self.invitation, **changes)
        name = f"node {len(self.agents) + 1}"
        agent = subprocess.Popen(
            [sys.executable, "-c", f"{self.before}\n{_AGENT}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert agent.stdin is not None
        start = AgentStart(invitation=invitation, name=name, slots=self.slots)
        agent.stdin.write(msgspec.json.encode(start) + b"\n")
        agent.stdin.flush()
        self.agents.append(agent)
        return agent

    def kill(self, number: int) -> None:
        """End an agent as a machine ends that loses its power."""
        os.kill(self.agents[number].pid, signal.SIGKILL)

    def expected(self) -> int | None:
        return self.count

    def failure(self) -> str | None:
        return self.failed

    def close(self) -> None:
        for agent in self.agents:
            assert agent.stdin is not None
            assert agent.stderr is not None
            # One that comes too late looks for the host for a minute, if nobody ends it.
            agent.stdin.close()
            agent.wait(timeout=30)
            agent.stderr.close()


class Events:
    """What a pool told of its nodes."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def __call__(self, what: str, detail: str, seconds: float) -> None:
        with self._lock:
            self.told.append((what, detail))

    def of(self, what: str) -> list[str]:
        with self._lock:
            return [detail for kind, detail in self.told if kind == what]


@contextmanager
def cluster(
    nodes: LoopbackNodes, events: Events | None = None, **settings: Any
) -> Iterator[ClusterPool]:
    """A pool over loopback nodes."""
    pool = ClusterPool(nodes, ClusterSettings(**settings), on_event=events or Events())
    try:
        yield pool
    finally:
        pool.close()
