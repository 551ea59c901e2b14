"""What more nodes bring: programs that compute, scored on 1, 2 and 3 nodes of a Ray cluster.

    python bench/ray_scaling.py                24 programs of about 0.4 s of CPU time each
    python bench/ray_scaling.py --json FILE    and keep the figures

The nodes are processes on this machine with one core each, so more nodes than the machine has
cores show its limit and not that of the pool. Beside them the pool of this machine does the same
with as many slots. Ray's own processes take part of a core; what they take while nothing runs is
measured first.
"""

import argparse
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from selftaught.pool import AheadPool, ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.pools.opening import PoolSettings, open_pool
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Scored

NODES = (1, 2, 3)
IDLE_S = 10.0
TASK = {
    "task.toml": """summary = "compute"
[normalisation]
best = 100.0
[limits]
time_s = 10.0
[splits.val]
seed = 4321
instances = 4
[splits.test]
seed = 5678
instances = 4
""",
    "description.md": "Compute.",
    "solution.py": "def algorithm(x):\n    return sum(i % 7 for i in range(1_200_000))\n",
    "utility.py": '''"""What a program returns."""
from selftaught.utility import over_instances

def score(solution, split, seed):
    return over_instances(lambda x: float(solution.call("algorithm", x)), split, seed)
''',
}


def made_task(folder: Path) -> Task:
    """The task whose programs compute."""
    folder.mkdir()
    for name, text in TASK.items():
        (folder / name).write_text(text)
    return Task.load(str(folder))


def timed(pool: AheadPool, task: Task, programs: int) -> float:
    """Seconds that a pool takes to score programs, each a different text."""

    def score(number: int) -> None:
        source = task.initial.source + f"# {number}\n"
        outcome = pool.score(ScoreJob(task=task, solution=Solution(source), split="val"))
        if not isinstance(outcome, Scored):
            raise SystemExit(f"a program was not scored: {outcome}")

    with ThreadPoolExecutor(4 * pool.slots) as threads:
        # Evaluators and zygotes start.
        list(threads.map(score, range(-2 * pool.slots, 0)))
        began = time.monotonic()
        list(threads.map(score, range(programs)))
        return time.monotonic() - began


def used_s() -> dict[int, float]:
    """CPU seconds of each process that this one has started, and of those that these have."""
    parents, used = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.parent.name)
        parents[pid] = int(fields[1])
        used[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {pid: used[pid] for pid in ours - {os.getpid()}}


def idle_cores() -> float:
    """Cores that our processes take while they have nothing to do."""
    before = used_s()
    time.sleep(IDLE_S)
    return sum(now - before.get(pid, 0.0) for pid, now in used_s().items()) / IDLE_S


def opened(address: str) -> AheadPool:
    """The pool over the nodes that there are."""
    return open_pool(
        PoolSettings(url=f"ray://{address}"),
        on_attempt=lambda program, attempt: None,
        on_event=lambda what, detail, seconds: print(f"{what}: {detail}", file=sys.stderr),
        check=lambda: None,
        environment=os.environ,
    )


def measure(task: Task, programs: int, repeats: int) -> dict[str, float]:
    """Grow the cluster node by node, and score on each size."""
    from ray.cluster_utils import Cluster

    figures: dict[str, float] = {}
    small = {"object_store_memory": 80 * 1024 * 1024, "include_log_monitor": False}
    head = {**small, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for count in NODES:
            cluster.add_node(num_cpus=1, **small)
            time.sleep(5.0)
            idle = idle_cores()
            began = time.monotonic()
            pool = opened(cluster.address)
            try:
                start_s = time.monotonic() - began
                if pool.slots != count:
                    raise SystemExit(f"{pool.slots} slots on {count} nodes")
                seconds = [timed(pool, task, programs) for _ in range(repeats)]
            finally:
                pool.close()
            local = LocalPool(count)
            try:
                local_s = [timed(local, task, programs) for _ in range(repeats)]
            finally:
                local.close()
            figures |= {
                f"{count} nodes: cores that Ray takes while nothing runs": idle,
                f"{count} nodes: start of the pool, s": start_s,
                f"{count} nodes: wall, s": statistics.median(seconds),
                f"{count} slots of this machine: wall, s": statistics.median(local_s),
            }
    finally:
        cluster.shutdown()
    for count in NODES[1:]:
        one, more = figures["1 nodes: wall, s"], figures[f"{count} nodes: wall, s"]
        target = " (target 1.8)" if count == 2 else ""
        figures[f"{count} nodes: times as fast as one{target}"] = one / more
        one = figures["1 slots of this machine: wall, s"]
        more = figures[f"{count} slots of this machine: wall, s"]
        figures[f"{count} slots of this machine: times as fast as one"] = one / more
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Short, for the names of sockets; and Ray reads these when it is imported.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    os.environ |= {
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    try:
        figures = measure(made_task(folder / "compute"), options.programs, options.repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores; medians")
    for what, value in figures.items():
        print(f"{what:<62} {value:9.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
