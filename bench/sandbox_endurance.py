"""Endurance of the sandbox: what grows over many evaluations, and what a killed host leaves.

Run by `bench/sandbox.py --evaluations N`. `python bench/sandbox_endurance.py hold` is the host
that gets killed: a pool whose candidate sleeps.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from selftaught.pool import ScoreJob, run_all
from selftaught.pools.local import LocalPool
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Scored

ROWS = 10
_FILES = {
    "task.toml": """
        summary = "add seven"
        modules = ["numpy"]
        [normalisation]
        best = 0.0
        worst = -10.0
        [limits]
        time_s = 1.0
        wall_s = 60.0
        [splits.val]
        seed = 4321
        instances = 1
        [splits.test]
        seed = 5678
        instances = 1
    """,
    "solution.py": """
        import numpy

        def algorithm(x):
            return float(numpy.add(x, 7))
    """,
    "description.md": "Return x + 7.",
    "utility.py": """
        from selftaught.utility import over_instances

        def score(solution, split, seed):
            def one(instance_seed):
                return -abs(solution.call("algorithm", instance_seed) - instance_seed - 7)

            return over_instances(one, split, seed, worst=-10.0)
    """,
    "README.md": "For measuring.",
}
_SLEEPS = "import time\n\ndef algorithm(x):\n    time.sleep(50)\n    return x\n"


def _task(folder: Path) -> Task:
    for name, text in _FILES.items():
        (folder / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return Task.load(str(folder))


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*"):
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


def held(folder: Path) -> dict[str, float]:
    """What this process and its family hold now."""
    family_pids = family(os.getpid())
    pss = {pid: _pss_mib(pid) for pid in family_pids}
    zygotes = [pid for pid in family_pids if "/guest" in _command(pid)]
    segments = Path("/proc/sysvipc/shm").read_text().count("\n") - 1
    return {
        "fds": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family_pids),
        "processes": len(family_pids),
        "host_mib": pss[os.getpid()],
        "zygotes_mib": sum(pss[pid] for pid in zygotes),
        "all_mib": sum(pss.values()),
        "tmp_files": sum(1 for _ in folder.rglob("*")),
        "shm": len(os.listdir("/dev/shm")) + segments,
    }


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def _pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def endure(evaluations: int) -> dict[str, object]:
    """Run evaluations in a row through a pool and print what is held at intervals."""
    with tempfile.TemporaryDirectory() as name:
        # Everything that is made from here on lands in a folder of our own, where it is seen.
        folder = Path(name)
        tempfile.tempdir = os.environ["TMPDIR"] = name
        task_folder = folder / "task"
        task_folder.mkdir()
        rows = _run(evaluations, _task(task_folder), folder)
        orphans = kill_a_host()
        return {"evaluations": evaluations, "rows": rows, "orphans": orphans}


def _run(evaluations: int, task: Task, folder: Path) -> list[dict[str, float]]:
    pool = LocalPool()
    job = ScoreJob(task=task, solution=task.initial, split="val")

    def share(count: int) -> int:
        return sum(isinstance(pool.score(job), Scored) for _ in range(count))

    rows: list[dict[str, float]] = []
    try:
        run_all([lambda: share(25)] * pool.slots)
        started = time.perf_counter()
        done = scored = 0
        while True:
            row = {"done": float(done), "seconds": time.perf_counter() - started, **held(folder)}
            if not rows:
                print("".join(f"{name:>12s}" for name in row))
            rows.append(row)
            print("".join(f"{value:12.1f}" for value in row.values()), flush=True)
            if done >= evaluations:
                break
            step = max(1, evaluations // ROWS // pool.slots)
            counts = run_all([lambda step=step: share(step)] * pool.slots)
            done += step * pool.slots
            scored += sum(counts)
    finally:
        pool.close()
    left = len(family(os.getpid())) - 1
    print(f"scored {scored} of {done}; {done / rows[-1]['seconds']:.0f}/s on {pool.slots} cores; "
          f"processes after close: {left}")  # fmt: skip
    return rows


def kill_a_host() -> dict[str, int]:
    """Kill -9 a host whose candidates sleep, and count who of its family is alive later."""
    host = subprocess.Popen([sys.executable, __file__, "hold"], stdout=subprocess.PIPE)
    assert host.stdout is not None
    assert host.stdout.readline() == b"holding\n"
    time.sleep(1.0)
    started = [pid for pid in family(host.pid) if pid != host.pid]
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    found = {"before": len(started)}
    for seconds in (0.2, 2.0, 5.0):
        time.sleep(seconds)
        alive = [pid for pid in started if _is_alive(pid)]
        found[f"after_{seconds:g}_s_more"] = len(alive)
        if not alive:
            break
    print(f"kill -9 of a host with a sleeping candidate, its processes: {found}")
    for pid in started:
        if _is_alive(pid):
            print(f"  still there: {pid} {_command(pid)!r:.100}")
            os.kill(pid, signal.SIGKILL)
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def hold() -> None:
    """Score programs that sleep, until killed."""
    with tempfile.TemporaryDirectory() as name:
        task = _task(Path(name))
        pool = LocalPool()
        pool.score(ScoreJob(task=task, solution=task.initial, split="val"))
        print("holding", flush=True)
        job = ScoreJob(task=task, solution=Solution(_SLEEPS), split="val")
        run_all([lambda: pool.score(job)] * pool.slots)


def echoes_per_second(count: int = 4000) -> float:
    """Round trips of 100 bytes with a forked child that only echoes: the floor of any call."""
    near, far = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        near.close()
        while data := far.recv(4096):
            far.sendall(data)
        os._exit(0)
    far.close()
    poll = select.poll()
    poll.register(near.fileno(), select.POLLIN)
    started = time.perf_counter()
    for _ in range(count):
        near.sendall(b"x" * 100)
        poll.poll(1000)
        near.recv(4096)
    seconds = time.perf_counter() - started
    near.close()
    os.waitpid(pid, 0)
    return count / seconds


if __name__ == "__main__" and sys.argv[1:] == ["hold"]:
    hold()
