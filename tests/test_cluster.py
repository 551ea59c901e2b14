"""A pool of several machines: what is lost with one, who joins, who may not, and what is left."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import write_toy
from loopback_nodes import Events, LoopbackNodes, cluster
from process_tree import below, processes

from selftaught.errors import (
    ClusterUnavailable,
    Interrupted,
    ProcessLost,
    SelftaughtError,
    StoreError,
    TaskError,
)
from selftaught.language_model import Answer, Request
from selftaught.models.broker import Broker
from selftaught.pool import AheadPool, NodeLost, ScoreJob, run_all
from selftaught.pools import cluster as clusters
from selftaught.pools.cluster import ClusterPool, ClusterSettings
from selftaught.pools.nodes import channel, door
from selftaught.pools.nodes import software as software_of
from selftaught.pools.nodes.invitation import Invitation
from selftaught.pools.nodes.private_folder import PREFIX
from selftaught.runs import execution
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.runs.result import Run
from selftaught.solution import Solution
from selftaught.store.opening import open_store
from selftaught.task import Task
from selftaught.testing.pool_contract import adds, improve_job
from selftaught.utility import Outcome, Returned, Scored, kind

SLOW = "import time\ndef algorithm(x):\n    time.sleep(0.2)\n    return x + {}\n"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what agents leave behind, and nobody else."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def value(outcome: Outcome) -> float:
    assert isinstance(outcome, Scored), outcome
    return outcome.value


def test_what_a_lost_node_was_scoring_is_scored_elsewhere(toy: Task) -> None:
    nodes, events = LoopbackNodes(2), Events()
    with cluster(nodes, events) as pool, ThreadPoolExecutor(6) as threads:
        jobs = [
            ScoreJob(task=toy, solution=Solution(SLOW.format(n)), split="val") for n in range(4)
        ]
        scores = [threads.submit(pool.score, job) for job in jobs]
        time.sleep(0.5)
        nodes.kill(0)
        assert [value(score.result()) for score in scores] == [-7.0, -6.0, -5.0, -4.0]
        assert len(pool.nodes) == 1
        assert any("is scored anew" in detail for detail in events.of("job_lost"))
        # One slot is left, and it is not given twice.
        assert pool.slots == 1


def test_an_improver_on_a_lost_node_is_told_as_lost(toy: Task) -> None:
    nodes = LoopbackNodes(1)
    with cluster(nodes) as pool:

        def ask(request: Request) -> Answer:
            nodes.kill(0)
            return Answer(texts=("x",))

        with pytest.raises(NodeLost):
            pool.improve(improve_job(pool, toy, "return language_model.prompt('e', 'm')", ask=ask))


def test_who_joins_later_is_used(toy: Task) -> None:
    nodes, events = LoopbackNodes(1), Events()
    with cluster(nodes, events) as pool:
        nodes.kill(0)
        until(lambda: pool.slots == 0)
        waiting: Future[Outcome] = Future()
        job = ScoreJob(task=toy, solution=toy.initial, split="val")
        thread = threading.Thread(target=lambda: waiting.set_result(pool.score(job)))
        thread.start()
        until(lambda: bool(events.of("waiting_for_nodes")))
        nodes.add()
        assert value(waiting.result(timeout=30)) == -4.0
        thread.join()
        assert events.of("node_joined")


def test_without_any_node_a_run_ends_with_a_sentence(toy: Task) -> None:
    nodes = LoopbackNodes(1)
    with cluster(nodes, patience_s=0.5) as pool:
        nodes.kill(0)
        with pytest.raises(ClusterUnavailable, match=r"within 0.5 s.*`selftaught resume` goes on"):
            pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))


@pytest.mark.parametrize(
    "reason", [Interrupted("The run was told to stop."), StoreError("The store is nearly full.")]
)
def test_who_may_not_go_on_does_not_wait_for_nodes(toy: Task, reason: SelftaughtError) -> None:
    nodes, stop = LoopbackNodes(1), threading.Event()

    def check() -> None:
        if stop.is_set():
            raise reason

    pool = ClusterPool(nodes, ClusterSettings(), check=check)
    last = threading.Timer(30, pool.close)
    try:
        nodes.kill(0)
        threading.Timer(0.5, stop.set).start()
        # Should nobody tell, this does, with another error.
        last.start()
        with pytest.raises(type(reason)):
            pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))
    finally:
        last.cancel()
        pool.close()


def test_strangers_are_no_nodes_and_told_of_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever scans the network must not end a run before its nodes are there."""
    monkeypatch.setattr(clusters, "MAX_STRANGERS_TOLD", 2)
    nodes, events = LoopbackNodes(1), Events()

    def start(invitation: Invitation) -> LoopbackNodes:
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", invitation.port), timeout=30) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                with suppress(ConnectionResetError):
                    while stranger.recv(1 << 12):
                        pass
        return nodes(invitation)

    pool = ClusterPool(start, ClusterSettings(), on_event=events)
    try:
        assert len(pool.nodes) == 1
        assert len(events.of("node_refused")) == 2
    finally:
        pool.close()


def test_an_agent_comes_again_where_strangers_crowd_the_door(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "MAX_STRANGERS", 1)
    monkeypatch.setattr(channel, "HANDSHAKE_S", 4.0)
    nodes = LoopbackNodes(1)
    strangers: list[socket.socket] = []

    def start(invitation: Invitation) -> LoopbackNodes:
        strangers.append(socket.create_connection(("127.0.0.1", invitation.port)))
        return nodes(invitation)

    pool = ClusterPool(start, ClusterSettings(start_s=60))
    try:
        assert len(pool.nodes) == 1
    finally:
        pool.close()
        strangers[0].close()


def test_a_wrong_token_is_refused_on_both_sides() -> None:
    nodes, events = LoopbackNodes(1), Events()
    with cluster(nodes, events) as pool:
        stranger = nodes.add(token="00" * 32)
        assert stranger.wait(timeout=30) == 3
        assert stranger.stderr is not None
        assert b"it refused the token" in stranger.stderr.read()
        assert any("another token" in detail for detail in events.of("node_refused"))
        assert len(pool.nodes) == 1


def test_another_version_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    other = msgspec.structs.replace(software_of.software(), selftaught="9.9")
    monkeypatch.setattr(door, "software", lambda: other)
    with (
        pytest.raises(ClusterUnavailable, match=r"selftaught: 0\S+ there, 9.9 here"),
        cluster(LoopbackNodes(1)),
    ):
        pass


def test_a_task_that_differs_there_is_refused(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(LoopbackNodes(1)) as pool:
        changed = msgspec.structs.replace(toy, digest="0" * 16)
        with pytest.raises(TaskError, match=f"hash to {toy.digest} there and to {'0' * 16} here"):
            pool.score(ScoreJob(task=changed, solution=toy.initial, split="val"))


WEAK = "from selftaught.sandbox import layers; layers.STRONG = ()"


def test_a_node_without_a_sandbox_is_not_used() -> None:
    with (
        pytest.raises(ClusterUnavailable, match=r"node 1: This machine lacks the isolation"),
        cluster(LoopbackNodes(1, before=WEAK)),
    ):
        pass


def test_a_node_without_a_sandbox_is_used_where_that_is_allowed(toy: Task) -> None:
    with cluster(LoopbackNodes(1, before=WEAK), allow_weak_sandbox=True) as pool:
        assert value(pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))) == -4.0


def test_one_good_node_is_enough(toy: Task) -> None:
    nodes, events = LoopbackNodes(1), Events()
    with cluster(nodes, events) as pool:
        nodes.before = WEAK
        assert nodes.add().wait(timeout=30) == 3
        assert "lacks the isolation" in events.of("node_refused")[0]
        assert value(pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))) == -4.0


def test_a_node_that_hangs_is_given_up(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SILENCE_S", 6.0)
    often = "from selftaught.pools.nodes import channel; channel.ALIVE_S = 0.2"
    nodes, events = LoopbackNodes(2, before=often), Events()
    with cluster(nodes, events) as pool:
        os.kill(nodes.agents[0].pid, signal.SIGSTOP)
        jobs = [ScoreJob(task=toy, solution=Solution(adds(n)), split="val") for n in range(2)]
        try:
            scores = run_all([lambda job=job: value(pool.score(job)) for job in jobs])
        finally:
            os.kill(nodes.agents[0].pid, signal.SIGCONT)
        assert scores == [-7.0, -6.0]
        assert any("timed out" in detail for detail in events.of("node_lost"))


def test_a_job_that_loses_every_node_ends_the_run(toy: Task) -> None:
    nodes = LoopbackNodes(4)
    with cluster(nodes) as pool:
        job = ScoreJob(task=toy, solution=Solution(SLOW.format(0)), split="val")
        score: Future[Outcome] = Future()

        def work() -> None:
            try:
                score.set_result(pool.score(job))
            except ClusterUnavailable as error:
                score.set_exception(error)

        thread = threading.Thread(target=work)
        thread.start()
        while not score.done():
            time.sleep(0.3)
            busy = [n.name for n in pool._remote() if n._asked]
            for name in busy:
                nodes.kill(int(name.split()[1]) - 1)
        thread.join()
        with pytest.raises(
            ClusterUnavailable, match="was lost with the node that scored it 3 times"
        ):
            score.result()


def test_the_bytes_of_an_improver_break_no_channel(toy: Task) -> None:
    """Its frames are taken apart in the host, within bounds; one that is none ends it alone."""
    with cluster(LoopbackNodes(1)) as pool:
        deep = "[" * 90 + "]" * 90
        bodies = {
            f"import os, struct; b = b'{{\"ask\":{deep}}}'\nos.write(3, struct.pack('>II', len(b), 0) + b)\nreturn 'x'": "invalid_value",
            "import os; os.write(3, b'\\xff' * 64)\nreturn 'x'": "invalid_value",
            "import os; os._exit(3)": "failed",
        }
        for body, expected in bodies.items():
            assert kind(pool.improve(improve_job(pool, toy, body))) == expected, body
        assert value(pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))) == -4.0
        assert len(pool.nodes) == 1


def test_nothing_is_left_after_close(toy: Task) -> None:
    before = below(os.getpid())
    nodes, events = LoopbackNodes(2), Events()
    with cluster(nodes, events) as pool, ThreadPoolExecutor(2) as threads:
        busy = SLOW.replace("0.2", "100").format(1)
        scores = [
            threads.submit(
                pool.score, ScoreJob(task=toy, solution=Solution(busy + "#" * n), split="val")
            )
            for n in range(2)
        ]
        time.sleep(1.5)
        pool.close()
        for score in scores:
            assert isinstance(score.exception(timeout=30), ClusterUnavailable)
        # Nobody does them again, and nobody says so.
        assert events.of("job_lost") == []
    until(lambda: not (below(os.getpid()) - before))
    assert folders() == []


def folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


def test_what_a_killed_agent_left_is_removed_by_the_next(toy: Task) -> None:
    nodes = LoopbackNodes(1)
    with cluster(nodes) as pool:
        pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))
        nodes.kill(0)
        until(lambda: pool.slots == 0)
        (left,) = folders()
        nodes.add()
        until(lambda: pool.slots == 1)
        assert not left.exists()
        assert len(folders()) == 1
    assert folders() == []


def test_a_terminated_agent_leaves_no_file(toy: Task) -> None:
    nodes = LoopbackNodes(1)
    with cluster(nodes) as pool:
        pool.score(ScoreJob(task=toy, solution=toy.initial, split="val"))
        nodes.agents[0].send_signal(signal.SIGTERM)
        assert nodes.agents[0].wait(timeout=30) == 128 + signal.SIGTERM
        assert folders() == []


def test_an_improver_whose_process_is_killed_there_is_told_as_lost(toy: Task) -> None:
    """As where memory runs out: it is begun again, and the node stays."""
    nodes = LoopbackNodes(1)
    with cluster(nodes) as pool:

        def ask(request: Request) -> Answer:
            for one in below(nodes.agents[0].pid):
                pid = one.split()[0]
                # What one of them has started ends with it.
                with suppress(FileNotFoundError, ProcessLookupError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().count(b"sandbox/guest"):
                        os.kill(int(pid), signal.SIGKILL)
            return Answer(texts=("x",))

        with pytest.raises(ProcessLost):
            pool.improve(improve_job(pool, toy, "return language_model.prompt('e', 'm')", ask=ask))
        assert len(pool.nodes) == 1
        job = improve_job(pool, toy, "return language_model.prompt('e', 'm')[0]")
        assert pool.improve(job) == Returned(source="m")


DRIVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from loopback_nodes import LoopbackNodes, cluster
from selftaught.pool import ScoreJob
from selftaught.solution import Solution
from selftaught.task import Task
task = Task.load(sys.argv[2])
with cluster(LoopbackNodes(2)) as pool:
    print("ready", flush=True)
    pool.score(ScoreJob(task=task, split="val", solution=Solution(
        "import time\\ndef algorithm(x):\\n    time.sleep(100)\\n")))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_host_that_ends_leaves_nothing_on_its_nodes(tmp_path: Path, number: int) -> None:
    toy = write_toy(tmp_path / "toy")
    limits = (toy / "task.toml").read_text().replace("time_s = 0.3", "time_s = 9\nwall_s = 120")
    (toy / "task.toml").write_text(limits)
    host = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(toy)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert host.stdout is not None
    host.stdout.readline()
    time.sleep(1.5)
    started = below(host.pid)
    assert len(started) >= 6
    host.send_signal(number)
    host.wait(timeout=30)
    host.stdout.close()
    until(lambda: not processes().keys() & started)


def run_on(
    pool: Callable[..., AheadPool] | None,
    toy_folder: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    **changes: Any,
) -> Run:
    with monkeypatch.context() as patched:
        if pool is not None:
            patched.setattr(execution, "open_pool", pool)
        config = RunConfig(
            command="run",
            tasks=(str(toy_folder),),
            improvers=(("seed", IMPROVER),),
            rounds=2,
            repeats=1,
            sealed_repeats=1,
            slots=2,
            **changes,
        )
        return start(config, str(store))


IMPROVER = """from helpers import extract_code

def improve_algorithm(initial_solution, utility, language_model):
    answers = language_model.batch_prompt("You improve.", [initial_solution] * 4)
    return max([initial_solution, *extract_code(answers)], key=utility)
"""


def on_loopback(nodes: LoopbackNodes) -> Callable[..., AheadPool]:
    def opened(settings: Any, **told: Any) -> AheadPool:
        told.pop("environment")
        return ClusterPool(nodes, ClusterSettings(), **told)

    return opened


def told(run: Run) -> list[object]:
    return [
        (one.improver.hash, one.accepted, one.validation.outcome, one.sealed.outcome)
        for one in run.rounds
    ]


def test_a_run_on_nodes_is_the_run_on_this_machine(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run_on(None, toy_folder, tmp_path / "here.db", monkeypatch)
    there = run_on(on_loopback(LoopbackNodes(2)), toy_folder, tmp_path / "there.db", monkeypatch)
    assert told(there) == told(here)
    assert there.spent["live_calls"] == here.spent["live_calls"]


def test_a_run_that_loses_nodes_ends_as_the_undisturbed_one(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is killed whenever an improver has asked for the 2nd, 5th and 9th time."""
    whole = run_on(on_loopback(LoopbackNodes(2)), toy_folder, tmp_path / "whole.db", monkeypatch)
    nodes = LoopbackNodes(2)
    victims = {2: 0, 5: 1, 9: 2}
    asked = 0
    lock = threading.Lock()
    respond = Broker._respond

    def killing(self: Broker, job: str, *rest: Any) -> Answer:
        nonlocal asked
        with lock:
            asked += 1
            victim = victims.get(asked)
        if victim is not None:
            nodes.kill(victim)
            nodes.add()
        return respond(self, job, *rest)

    monkeypatch.setattr(Broker, "_respond", killing)
    run = run_on(on_loopback(nodes), toy_folder, tmp_path / "killed.db", monkeypatch)
    assert told(run) == told(whole)
    assert asked == whole.spent["live_calls"], "an answer was asked for twice"
    with (
        open_store(str(tmp_path / "killed.db"), writable=False) as store,
        open_store(str(tmp_path / "whole.db"), writable=False) as undisturbed,
    ):
        events = [event for _, _, event in store.events(run.id, ["requested"])]
        assert len({event.key for event in events}) == len(events)
        spent = [
            sorted(
                (e.job, e.calls, e.responses, e.utility_calls)
                for _, _, e in one.events(of.id, ["improved"])
            )
            for one, of in ((store, run), (undisturbed, whole))
        ]
        assert spent[0] == spent[1]
        lost = [e for _, _, e in store.events(run.id, ["paused"]) if "run anew" in e.detail]
        assert lost
