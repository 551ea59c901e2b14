"""kill -9 in the middle of a run, then resume: same result, nothing asked twice, nobody left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import write_toy
from process_tree import below, processes

from selftaught.testing import LoopbackServer

RUN = ["run", "./toy", "--rounds", "2", "--calls", "2", "--responses", "3", "--held-out", "none",
       "--slots", "2", "--json"]  # fmt: skip


@contextmanager
def server(log: Path, *options: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "selftaught.testing.loopback_server", "--log", str(log),
         "--answer", "mutation", *options],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def start(folder: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "selftaught", *arguments, "--model", "openai/x", "--base-url", url],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(document: str) -> object:
    run = json.loads(document)
    return [(r["improver"], r["accepted"], r["validation"], r["sealed"]) for r in run["rounds"]]


def keys(log: Path) -> list[str]:
    return [json.loads(line)["idempotency_key"] for line in log.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("at_request", [1, 4, 11, 23])
def test_a_killed_run_resumes_to_the_uninterrupted_result(tmp_path: Path, at_request: int) -> None:
    folder = tmp_path / "work"
    write_toy(folder / "toy")
    whole_log, first_log, pid_file = (tmp_path / n for n in ("whole", "first", "pid"))
    with server(whole_log) as url:
        whole, _ = start(folder, url, *RUN, "--store", "whole.db").communicate(timeout=120)
    with server(
        first_log, "--on-request-number", str(at_request), "--kill-pid-file", str(pid_file)
    ) as url:
        victim = start(folder, url, *RUN, "--store", "killed.db")
        pid_file.write_text(str(victim.pid))
        victim.communicate(timeout=120)
        assert victim.returncode == -signal.SIGKILL
        resumed = subprocess.run(
            [sys.executable, "-m", "selftaught", "resume", "latest", "--store", "killed.db",
             "--json"],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert result(resumed.stdout) == result(whole)
    asked = keys(first_log)
    assert len(asked) == len(set(asked)), "a request was repeated"
    assert sorted(asked) == sorted(keys(whole_log))


@pytest.mark.parametrize("asleep", [False, True])
def test_a_killed_host_leaves_no_process_behind(tmp_path: Path, asleep: bool) -> None:
    toy = write_toy(tmp_path / "toy")
    if asleep:
        # In the middle of a call that nothing else would end for two minutes.
        limits = (toy / "task.toml").read_text().replace("time_s = 0.3", "time_s = 9\nwall_s = 120")
        (toy / "task.toml").write_text(limits)
        (toy / "solution.py").write_text("import time\ndef algorithm(x):\n    time.sleep(100)\n")
    victim = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "selftaught",
            "run",
            "./toy",
            "--rounds",
            "20",
            "--held-out",
            "none",
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while len(below(victim.pid)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    started = below(victim.pid)
    assert len(started) >= 4
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    deadline = time.monotonic() + 10
    while processes().keys() & started and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes().keys() & started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    write_toy(tmp_path / "toy")
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "selftaught",
            "run",
            "./toy",
            "--rounds",
            "50",
            "--held-out",
            "none",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(below(running.pid)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "selftaught resume r-" in said
    assert "Traceback" not in said
    shown = subprocess.run(
        [sys.executable, "-m", "selftaught", "show", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(shown.stdout)[0]["status"] == "interrupted"


def test_a_second_ctrl_c_waits_for_no_answer(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    with LoopbackServer(latency_s=300.0) as model:
        running = start(tmp_path, model.url, *RUN, "--concurrency", "4")
        deadline = time.monotonic() + 60
        while not model.log and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        while "stopping; what is under way" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        # It would wait for an answer until its time limit.
        _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "selftaught resume r-" in said
    assert "Traceback" not in said
