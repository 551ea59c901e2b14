"""Starts an agent on each node of a Ray cluster, as a task that lasts as long as the run.

`python -m selftaught.pools.nodes.ray_agents` is a process of its own (see `starting`), and the
only one that imports Ray. Ray places the agents, keeps their cores from others and ends them with
the job; what jobs exchange does not pass through it.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from selftaught.pools.nodes.agent import EXIT_REFUSED
from selftaught.pools.nodes.invitation import AgentStart
from selftaught.pools.nodes.running import run_agent_function
from selftaught.pools.nodes.starting import HostLink, Order, Said

TRIES_PER_NODE = 3
LOOK_S = 1.0
_PROBE_S = 60.0
# Prints how a cluster answers who comes with the token of the environment, or with none.
_PROBE = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
    print("admitted")
except AuthenticationError:
    print("refused")
except Exception as error:
    print(f"unreachable {error}")
"""


class Unusable(Exception):
    """The cluster cannot be used. A sentence."""


def check_cluster(address: str, *, allow_open: bool) -> bool:
    """Return whether the cluster asks for a token, which ours is then known to be.

    Raises:
        Unusable: it cannot be reached, refuses our token, or lets anybody in.
    """
    answer = _asked(address, "disabled")
    if answer == "admitted":
        if allow_open:
            return False
        raise Unusable(
            f"The Ray cluster at {address} lets anybody in who reaches it, and whoever is in can "
            "run any program on its machines. Start it with RAY_AUTH_MODE=token, or pass "
            "--allow-open-cluster where its network is closed to all whom you do not trust."
        )
    if answer == "refused":
        if _asked(address, "token") == "admitted":
            return True
        raise Unusable(
            f"The Ray cluster at {address} refused the token. Set RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to the cluster's, or put it into ~/.ray/auth_token."
        )
    raise Unusable(
        f"There is no Ray cluster at {address} that answers: {answer.removeprefix('unreachable ')}"
    )


def _asked(address: str, mode: str) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            env={**os.environ, "RAY_AUTH_MODE": mode},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"unreachable nothing came within {_PROBE_S:g} s."
    lines = done.stdout.strip().splitlines()
    if lines:
        return lines[-1]
    # Where no token is found, Ray ends the process.
    return "refused" if mode == "token" else f"unreachable {done.stderr.strip()[-300:]}"


class Agents:
    """The agents of one run on the nodes of a cluster.

    Args:
        ray: the module, connected.
        order: what to start.
        say: tells the host.
    """

    def __init__(self, ray: Any, order: Order, say: Callable[[Said], None]) -> None:
        self._ray = ray
        self._order = order
        self._say = say
        self._run_agent = ray.remote(max_retries=0)(run_agent_function())
        self._running: dict[Any, tuple[str, str]] = {}
        self._tries: dict[str, int] = {}
        self._expected = 0

    def look(self) -> None:
        """Start agents where nodes have none, and tell of those that ended."""
        for node in self._ray.nodes():
            cores = int(node["Resources"].get("CPU", 0)) if node["Alive"] else 0
            if cores and self._tries.get(node["NodeID"], 0) == 0:
                self._start(node["NodeID"], self._name(node), cores)
        if self._running:
            ended, _ = self._ray.wait(list(self._running), timeout=LOOK_S)
            for one in ended:
                self._end(one)
        else:
            time.sleep(LOOK_S)

    def _name(self, node: dict[str, Any]) -> str:
        return f"{node['NodeManagerHostname']} {node['NodeID'][:6]}"

    def _start(self, node: str, name: str, cores: int) -> None:
        slots = self._order.slots or cores
        start = AgentStart(invitation=self._order.invitation, name=name, slots=slots)
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        agent = self._run_agent.options(
            num_cpus=min(slots, cores), scheduling_strategy=affinity(node_id=node, soft=False)
        ).remote(msgspec.json.encode(start))
        self._running[agent] = node, name
        self._tries[node] = self._tries.get(node, 0) + 1
        if self._tries[node] == 1:
            self._expected += 1
            self._say(Said(expected=self._expected))

    def _end(self, agent: Any) -> None:
        node, name = self._running.pop(agent)
        try:
            code, reason = self._ray.get(agent)
        except self._ray.exceptions.RayError as error:
            code, reason = 1, str(error).strip().splitlines()[0]
        self._say(Said(node=name, reason=reason or f"exit code {code}"))
        if code != EXIT_REFUSED and self._tries[node] < TRIES_PER_NODE:
            for one in self._ray.nodes():
                if one["NodeID"] == node and one["Alive"]:
                    self._start(node, name, int(one["Resources"].get("CPU", 0)) or 1)


def main() -> None:
    """Connect, and keep agents running until the host is done."""
    link = HostLink()
    order = link.order
    try:
        needs_token = check_cluster(order.where, allow_open=order.allow_open_cluster)
    except Unusable as error:
        link.say(Said(failed=str(error)))
        return
    os.environ["RAY_AUTH_MODE"] = "token" if needs_token else "disabled"
    import ray
    import ray.util.scheduling_strategies

    try:
        ray.init(
            address=order.where,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="selftaught",
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        link.say(Said(failed=f"Ray cannot connect to the cluster at {order.where}: {reason}"))
        return
    agents = Agents(ray, order, link.say)
    while not link.ended.is_set():
        agents.look()
    ray.shutdown()


if __name__ == "__main__":
    main()
