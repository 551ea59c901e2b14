"""Endurance of the sandbox: what grows over many evaluations, and what a killed host leaves.

    python bench/sandbox_endurance.py --evaluations 100000      about 8 minutes on two idle cores

Prints what the host and all its processes hold at intervals, then before and after, side by side,
and exits with 1 where more is held than before, or a killed host leaves a process behind.
`bench/sandbox.py --evaluations N` is the same. One evaluation in EVERY is of a program that
crashes, one of a program that is refused something: what cleans up after these is tried as well.
"""

import argparse
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
EVERY = 50
# What may be held more at the end than at the start, after everything was used once. Memory moves
# a little by itself; a leak of 100 bytes an evaluation would be 10 MiB after 100,000.
ALLOWED = {
    "fds": 0.0, "processes": 0.0, "host_mib": 4.0, "evaluators_mib": 4.0, "zygotes_mib": 4.0,
    "host_rss_mib": 6.0, "tmp_files": 0.0, "shm": 0.0,
}  # fmt: skip
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
_CRASHES = "import os\n\ndef algorithm(x):\n    os._exit(3)\n"
_REFUSED = "import socket\n\ndef algorithm(x):\n    socket.socket()\n"
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
    pss = {pid: _rolled_up_mib(pid, "Pss") for pid in family_pids}
    zygotes = {pid for pid in family_pids if "/guest" in _command(pid)}
    evaluators = set(family_pids) - zygotes - {os.getpid()}
    return {
        "fds": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family_pids),
        "processes": len(family_pids),
        "host_mib": pss[os.getpid()],
        "host_rss_mib": _rolled_up_mib(os.getpid(), "Rss"),
        "evaluators_mib": sum(pss[pid] for pid in evaluators),
        "zygotes_mib": sum(pss[pid] for pid in zygotes),
        "tmp_files": sum(1 for _ in folder.rglob("*")),
        "shm": _shared_memory(set(family_pids)),
    }


def _shared_memory(ours: set[int]) -> int:
    """Files and segments of our user, or nobody, that no process outside our family has mapped."""
    users = {os.getuid(), 65534}
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    segments = sum(int(row[7]) in users for row in rows)
    files = [entry.path for entry in os.scandir("/dev/shm") if _owner(entry) in users]
    if not files:
        return segments
    foreign = "".join(
        _maps(int(path.name)) for path in Path("/proc").glob("[0-9]*") if int(path.name) not in ours
    )
    return segments + sum(path not in foreign for path in files)


def _owner(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except FileNotFoundError:
        return -1


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def _rolled_up_mib(pid: int, what: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def endure(evaluations: int) -> dict[str, object]:
    """Run evaluations in a row through a pool, print what is held, and say what leaked."""
    with tempfile.TemporaryDirectory() as name:
        # Everything that is made from here on lands in a folder of our own, where it is seen.
        folder = Path(name)
        tempfile.tempdir = os.environ["TMPDIR"] = name
        task_folder = folder / "task"
        task_folder.mkdir()
        rows, left = _run(evaluations, _task(task_folder), folder)
        leaks = _compare(rows[0], rows[-1])
        if left:
            leaks.append(f"{left} processes after the pool was closed")
        orphans = kill_a_host()
        if orphans["at_last"]:
            leaks.append(f"{orphans['at_last']} processes after the host was killed")
        print(f"leaks: {'; '.join(leaks) or 'none'}")
        return {"evaluations": evaluations, "rows": rows, "orphans": orphans, "leaks": leaks}


def _compare(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Print what was held before and after; return what grew beyond what it may."""
    leaks = []
    print(f"\n{'':16s}{'before':>10s}{'after':>10s}{'may grow':>10s}")
    for name, allowed in ALLOWED.items():
        grew = after[name] - before[name] > allowed
        verdict = "LEAK" if grew else "ok"
        print(f"{name:16s}{before[name]:10.1f}{after[name]:10.1f}{allowed:10.1f}  {verdict}")
        if grew:
            leaks.append(f"{name} {before[name]:.1f} -> {after[name]:.1f}")
    return leaks


def _run(evaluations: int, task: Task, folder: Path) -> tuple[list[dict[str, float]], int]:
    pool = LocalPool()
    programs = [task.initial] * EVERY
    programs[3], programs[7] = Solution(_CRASHES), Solution(_REFUSED)
    jobs = [ScoreJob(task=task, solution=one, split="val") for one in programs]

    def share(count: int) -> int:
        return sum(isinstance(pool.score(jobs[i % EVERY]), Scored) for i in range(count))

    rows: list[dict[str, float]] = []
    try:
        # What is made once, or grows to a size and stays: before the first look.
        run_all([lambda: share(EVERY * 10)] * pool.slots)
        started = time.perf_counter()
        done = scored = 0
        while True:
            row = {"done": float(done), "seconds": time.perf_counter() - started, **held(folder)}
            if not rows:
                print("".join(f"{name:>15s}" for name in row))
            rows.append(row)
            print("".join(f"{value:15.1f}" for value in row.values()), flush=True)
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
          f"processes after close: {left}; load {os.getloadavg()[0]:.2f}")  # fmt: skip
    return rows, left


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
    found["at_last"] = len(alive)
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


def main() -> int:
    """Endure; 1 where something leaked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["hold"], help="be the host that is killed")
    parser.add_argument("--evaluations", type=int, default=100_000)
    options = parser.parse_args()
    if options.what == "hold":
        hold()
        return 0
    return 1 if endure(options.evaluations)["leaks"] else 0


if __name__ == "__main__":
    sys.exit(main())
