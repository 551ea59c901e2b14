"""Agents as jobs: submitit's local executor stands in for Slurm, which needs a cluster."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_toy
from loopback_nodes import Events
from process_tree import below, processes
from test_cluster import SLOW, until, value
from test_crash import RUN, result, server

from selftaught.errors import ClusterUnavailable, UsageError
from selftaught.pool import ScoreJob, run_all
from selftaught.pools.cluster import ClusterPool
from selftaught.pools.nodes.invitation import Invitation
from selftaught.pools.nodes.slurm_agents import Jobs
from selftaught.pools.nodes.starting import Order, Said
from selftaught.pools.opening import PoolSettings, open_pool
from selftaught.solution import Solution
from selftaught.task import Task

HOST_CANARY = "sk-canary-of-the-host-0123456789"


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def pool(tmp_path: Path, events: Events) -> Iterator[ClusterPool]:
    url = f"slurm://here?executor=local&nodes=2&cpus=1&patience=1&folder={tmp_path}"
    pool = open_pool(
        PoolSettings(url=url),
        on_attempt=lambda program, attempt: None,
        on_event=events,
        check=lambda: None,
        environment={**os.environ, "OPENAI_API_KEY": HOST_CANARY},
    )
    assert isinstance(pool, ClusterPool)
    yield pool
    pool.close()
    assert list(tmp_path.iterdir()) == []


def agents() -> list[int]:
    parents = {int(one.split()[0]): parent for one, parent in processes().items()}
    found = []
    for one in below(os.getpid()):
        pid = int(one.split()[0])
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if command.endswith(b"selftaught.pools.nodes.agent\0"):
            found.append(pid)
    # What an agent starts looks like it, until it has become the other program.
    return sorted(pid for pid in found if parents.get(pid) not in found)


def test_what_a_killed_agent_was_scoring_is_scored_by_another(
    pool: ClusterPool, events: Events, toy: Task
) -> None:
    jobs = [ScoreJob(task=toy, solution=Solution(SLOW.format(n)), split="val") for n in range(2)]
    started = agents()
    assert len(started) == pool.slots == 2

    def kill() -> float:
        time.sleep(0.7)
        os.kill(started[0], signal.SIGKILL)
        return 0.0

    scores = run_all([*(lambda job=job: value(pool.score(job)) for job in jobs), kill])
    assert scores == [-7.0, -6.0, 0.0]
    assert events.of("job_lost")
    until(lambda: bool(events.of("agent_ended")))


def test_jobs_that_are_all_cancelled_end_the_run_with_a_sentence(
    pool: ClusterPool, toy: Task
) -> None:
    """As scancel does: SIGTERM to all processes of a job."""
    assert agents()
    for agent in agents():
        os.kill(agent, signal.SIGTERM)
    with pytest.raises(ClusterUnavailable, match="`selftaught resume` goes on"):
        pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))


def test_no_key_and_no_token_can_be_read_from_outside(pool: ClusterPool, tmp_path: Path) -> None:
    """The token lies in a file of the owner's, and in no command line or environment."""
    (run,) = tmp_path.glob("selftaught-slurm-*")
    instructions = sorted(run.glob("agent-*.json"))
    assert len(instructions) == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in instructions)
    assert run.stat().st_mode & 0o777 == 0o700
    token = pool.token.encode()
    assert token in instructions[0].read_bytes()
    seen = below(os.getpid())
    assert len(seen) >= 8
    for one in seen:
        folder = Path(f"/proc/{one.split()[0]}")
        try:
            text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        assert HOST_CANARY.encode() not in text
        assert token not in text


def test_a_run_on_jobs_is_the_run_on_this_machine(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    documents = []
    for pool in ("local", "slurm://here?executor=local&nodes=2"):
        with server(tmp_path / "log") as url:
            done = subprocess.run(
                [sys.executable, "-m", "selftaught", *RUN, "--store", f"{pool[:5]}.db",
                 "--model", "openai/x", "--base-url", url, "--pool", pool],
                cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        documents.append(result(done.stdout))
    assert documents[0] == documents[1]
    until(lambda: not [p for p in processes() if "nodes.agent" in _command(p)])


class OneTaken:
    """Stands for submitit where Slurm takes one job and no second; implements both of its parts."""

    job_id = "7"

    def __init__(self) -> None:
        self.is_taken = self.is_cancelled = False

    def AutoExecutor(self, **given: object) -> "OneTaken":
        return self

    def update_parameters(self, **given: object) -> None:
        pass

    def submit(self, *given: object) -> "OneTaken":
        if self.is_taken:
            raise RuntimeError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        self.is_taken = True
        return self

    def cancel(self, check: bool) -> None:
        self.is_cancelled = True


def test_jobs_before_one_that_is_not_taken_can_be_cancelled(tmp_path: Path) -> None:
    invitation = Invitation(addresses=("127.0.0.1",), port=1, token="ab")
    order = Order(invitation=invitation, where="here", options={"nodes": "2"})
    slurm, told = OneTaken(), list[Said]()
    jobs = Jobs(slurm, order, tmp_path, told.append)
    with pytest.raises(RuntimeError, match="QOSMaxSubmit"):
        jobs.submit()
    jobs.cancel()
    assert slurm.is_cancelled


def test_a_name_that_only_this_machine_reaches_is_told_before_the_queue_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Debian writes 127.0.1.1 into /etc/hosts."""
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    with pytest.raises(UsageError, match=r"stands for 127\.0\.1\.1.*host=ADDRESS"):
        open_pool(
            PoolSettings(url="slurm://batch?start=1"),
            on_attempt=lambda program, attempt: None,
            on_event=Events(),
            check=lambda: None,
            environment={},
        )


def _command(process: str) -> str:
    try:
        return Path(f"/proc/{process.split()[0]}/cmdline").read_text()
    except OSError:
        return ""
