"""A real Ray cluster on this machine, in a process of its own, so that tests can end its nodes.

`python ray_cluster.py NODES` starts a head without cores and so many nodes with one core each,
prints a line of JSON about each, and ends them when its input ends. The environment decides
whether it asks for a token.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from process_tree import below, processes

CANARY = "sk-canary-of-a-node-0123456789"


class RayCluster:
    """The cluster that runs in the other process.

    Attributes:
        address: of the head.
        raylets: the process ids of the nodes' raylets.
    """

    def __init__(self, process: "subprocess.Popen[str]", address: str, raylets: list[int]) -> None:
        self._process = process
        self.address = address
        self.raylets = raylets

    def kill(self, number: int) -> None:
        """End a node at once, with all its workers, as a loss of power does."""
        raylet = self.raylets[number]
        for one in (f"{raylet} ", *below(raylet)):
            with suppress(ProcessLookupError):
                os.kill(int(one.split()[0]), signal.SIGKILL)

    def add(self) -> None:
        """One more node."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("add\n")
        self._process.stdin.flush()
        self.raylets.append(int(self._process.stdout.readline()))

    def workers(self) -> set[str]:
        """All processes of the nodes but the raylets."""
        return {one for raylet in self.raylets for one in below(raylet)}


@contextmanager
def ray_cluster(
    nodes: int, folder: Path, variables: Mapping[str, str], canary: str = CANARY
) -> Iterator[RayCluster]:
    """A cluster whose nodes were started from a shell that holds a key."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(nodes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            **variables,
            "OPENAI_API_KEY": canary,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(folder),
        },
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        yield RayCluster(process, told["address"], told["raylets"])
    finally:
        started = below(process.pid)
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()
        for one in processes().keys() & started:
            os.kill(int(one.split()[0]), signal.SIGKILL)


def main(nodes: int) -> None:
    """Start the cluster and keep it."""
    from ray.cluster_utils import Cluster

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    small = {"object_store_memory": 80 * 1024 * 1024}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **small,
            "num_cpus": 0,
            "include_dashboard": False,
            "include_log_monitor": False,
        },
    )

    def add() -> int:
        node = cluster.add_node(num_cpus=1, include_log_monitor=False, **small)
        (raylet,) = node.all_processes["raylet"]
        return int(raylet.process.pid)

    raylets = [add() for _ in range(nodes)]
    out.write(json.dumps({"address": cluster.address, "raylets": raylets}) + "\n")
    for _ in sys.stdin:
        out.write(f"{add()}\n")
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
