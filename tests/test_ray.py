"""Jobs on a real Ray cluster of two node processes: tokens, keys, lost nodes, and what is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_toy
from loopback_nodes import Events
from process_tree import below, processes
from ray_cluster import CANARY, RayCluster, ray_cluster
from test_crash import RUN, keys, result, server

from selftaught.errors import ClusterUnavailable
from selftaught.pool import AheadPool
from selftaught.pools.nodes.ray_agents import Unusable, check_cluster
from selftaught.pools.opening import PoolSettings, open_pool
from selftaught.testing import PoolContract

pytestmark = pytest.mark.slow

TOKEN = "5e1f" * 16
HOST_CANARY = "sk-canary-of-the-host-0123456789"


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """Short enough for the names of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def nodes(ray_folder: Path) -> Iterator[RayCluster]:
    """A head and two nodes, which ask for a token."""
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with ray_cluster(2, ray_folder, asks) as cluster:
        yield cluster


def opened(cluster: RayCluster, events: Events | None = None, token: str = TOKEN) -> AheadPool:
    return open_pool(
        PoolSettings(url=f"ray://{cluster.address}"),
        on_attempt=lambda program, attempt: None,
        on_event=events or Events(),
        check=lambda: None,
        environment={**os.environ, "RAY_AUTH_TOKEN": token, "OPENAI_API_KEY": HOST_CANARY},
    )


class TestRayPool(PoolContract):
    @pytest.fixture(scope="class")
    @classmethod
    def contract_pool(cls, nodes: RayCluster) -> Iterator[AheadPool]:
        pool = opened(nodes)
        yield pool
        pool.close()

    def test_no_key_is_in_the_environment_of_what_runs_jobs(
        self, contract_pool: AheadPool, nodes: RayCluster
    ) -> None:
        """Neither the host's, nor that of the shell that a node was started from."""
        seen = {one.split()[0]: _command(one) for one in nodes.workers()}
        agents = [pid for pid, command in seen.items() if "selftaught.pools.nodes.agent" in command]
        assert len(agents) == 2
        ours = {one.split()[0] for pid in agents for one in below(int(pid))} | set(agents)
        assert len(ours) >= 8
        for pid in ours:
            assert CANARY.encode() not in _environ(pid), seen.get(pid)
        starting = {one.split()[0] for one in below(os.getpid())}
        assert any("ray_agents" in _command(f"{pid} ") for pid in starting)
        for pid in (*seen, *starting):
            assert HOST_CANARY.encode() not in _environ(pid), seen.get(pid)


def _command(process: str) -> str:
    try:
        return Path(f"/proc/{process.split()[0]}/cmdline").read_bytes().decode().replace("\0", " ")
    except OSError:
        return ""


def _environ(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_a_wrong_token_is_refused_with_a_sentence(nodes: RayCluster) -> None:
    with pytest.raises(ClusterUnavailable, match=r"refused the token\. Set RAY_AUTH_TOKEN"):
        opened(nodes, token="0" * 64)


def test_a_cluster_that_lets_anybody_in_is_refused_unless_it_is_wanted() -> None:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    try:
        with ray_cluster(0, folder, {"RAY_AUTH_MODE": "disabled"}) as cluster:
            with pytest.raises(Unusable, match=r"lets anybody in.*--allow-open-cluster"):
                check_cluster(cluster.address, allow_open=False)
            assert check_cluster(cluster.address, allow_open=True) is False
    finally:
        shutil.rmtree(folder)


def run_on(cluster: RayCluster, folder: Path, url: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "selftaught", *arguments, "--model", "openai/x",
         "--base-url", url, "--pool", f"ray://{cluster.address}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "RAY_AUTH_TOKEN": TOKEN},
        text=True,
    )  # fmt: skip


def lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def until_asked(log: Path, times: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while lines(log) < times and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    assert lines(log) >= times


def test_a_run_that_loses_a_node_ends_as_one_on_this_machine(
    nodes: RayCluster, tmp_path: Path
) -> None:
    write_toy(tmp_path / "toy")
    logs = [tmp_path / "whole", tmp_path / "killed"]
    with server(logs[0]) as url:
        whole = subprocess.run(
            [sys.executable, "-m", "selftaught", *RUN, "--store", "whole.db",
             "--model", "openai/x", "--base-url", url],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    with server(logs[1]) as url:
        run = run_on(nodes, tmp_path, url, *RUN, "--store", "killed.db")
        until_asked(logs[1], 4, run)
        nodes.kill(0)
        nodes.add()
        out, said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert "job_lost" in said
    assert json.loads(out)["spent"]["jobs_begun_again"] >= 1
    assert result(out) == result(whole.stdout)
    asked = keys(logs[1])
    assert len(asked) == len(set(asked)), "a request was repeated"
    assert sorted(asked) == sorted(keys(logs[0]))
    assert json.loads(out)["spent"]["live_calls"] == len(asked)


def test_a_killed_host_leaves_no_agent_on_the_nodes(nodes: RayCluster, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    log = tmp_path / "log"
    with server(log) as url:
        run = run_on(nodes, tmp_path, url, *RUN, "--rounds", "40")
        until_asked(log, 2, run)
        agents = [one for one in nodes.workers() if "nodes.agent" in _command(one)]
        started = {one for agent in agents for one in below(int(agent.split()[0]))}
        started |= set(agents) | below(run.pid)
        assert len(started) >= 8
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while processes().keys() & started and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes().keys() & started
