"""What the sandbox costs, side by side in one run, as ratios to a bare fork of the same process.

    python bench/sandbox.py                          everything but endurance; about a minute
    python bench/sandbox.py --json FILE              and keep the figures
    python bench/sandbox.py --evaluations 100000     endurance: what leaks, and what a kill leaves

Absolute times differ between machines and hours. Every sample of one thing is therefore taken
right after one of the bare fork, and the ratio is what to compare.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from unittest import mock

import sandbox_endurance

from selftaught.sandbox import zygote as zygote_module
from selftaught.sandbox.candidate import SandboxedCandidate
from selftaught.sandbox.layers import choose_layers
from selftaught.sandbox.layout import GUEST
from selftaught.sandbox.zygote import Zygote
from selftaught.task import Limits

PROGRAM = "import numpy\n\ndef algorithm(x):\n    return float(numpy.arange(x).sum())\n"
TRIVIAL = "def algorithm(x):\n    return x\n"
WHOLE = "import sys, numpy; print(float(numpy.arange(int(sys.argv[1])).sum()))"
STAGES = ("fork", "rlimits", "no_new_privs", "landlock", "closed_fds", "seccomp", "all")
MEMORY_BYTES = 512 * 1024**2
THROUGHPUT_S = 4.0
INSTANCES = 100
TARGETS = {
    "one call, p50, x bare fork": ("at most", 3.0),
    "one call, p99, x bare fork": ("at most", 3.0),
    "calls/s on all cores, x subprocess + numpy": ("at least", 25.0),
    "calls/s of one child, 100 instances": ("at least", 20_000.0),
}

Figures = dict[str, float]


class Measured(Zygote):
    """A zygote that runs `bench/sandbox_guest.py` behind the shipped program."""

    def stages(self, *names: str) -> list[float]:
        """Seconds from fork to reaped of children that go through the named layers."""
        command = {"op": "stages", "stages": names, "memory_bytes": MEMORY_BYTES, "cpu_s": None,
                   "threads": 64}  # fmt: skip
        self._control.send(json.dumps(command).encode())
        seconds: list[float] = json.loads(self._control.recv(1 << 16))
        return seconds

    def inner_pid(self) -> int:
        """The process that children are forked from: the last of the chain that was started."""
        pid = self._process.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
        return pid


@contextmanager
def measured(modules: tuple[str, ...]) -> Iterator[Measured]:
    """A zygote with measuring operations, under the layers that this machine has."""
    with tempfile.TemporaryDirectory() as folder:
        guest = Path(folder) / "guest"
        shutil.copytree(GUEST, guest)
        main = guest / "__main__.py"
        shipped = main.read_text()
        assert shipped.endswith("\nmain()\n")
        extra = (Path(__file__).parent / "sandbox_guest.py").read_text()
        main.write_text(shipped.removesuffix("main()\n") + extra + "\n\nmain()\n")
        with mock.patch.object(zygote_module, "GUEST", guest):
            zygote = Measured(choose_layers(), modules)
    try:
        yield zygote
    finally:
        zygote.close()


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    return 1e3 * statistics.median(ordered), 1e3 * ordered[int(0.99 * (len(ordered) - 1))]


def layers(zygote: Measured, samples: int) -> Figures:
    """Each layer in a child that does nothing else, and all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in STAGES}
    for _ in range(samples):
        for name, one in zip(STAGES, zygote.stages(*STAGES), strict=True):
            seconds[name].append(one)
    bare = quantiles(seconds["fork"])[0]
    print(f"\na child's start to reaped, x bare fork ({bare:.2f} ms), numpy loaded, n = {samples}")
    found = {}
    for name in STAGES:
        found[name] = quantiles(seconds[name])[0] / bare
        print(f"  {name:14s} {found[name]:5.2f}")
    return found


def evaluate(zygote: Zygote, source: str, calls: int = 1) -> None:
    """One evaluation: a child forked, the program loaded and called, the child reaped."""
    candidate = SandboxedCandidate(zygote, source, Limits(memory_bytes=MEMORY_BYTES), seed=1)
    try:
        for _ in range(calls):
            candidate.call("algorithm", 5)
    finally:
        candidate.close()


def whole_process(prefix: tuple[str, ...] = ()) -> None:
    """The same call by a fresh interpreter."""
    subprocess.run(
        [*prefix, sys.executable, "-c", WHOLE, "5"], check=True, stdout=subprocess.DEVNULL
    )


def one_call(zygote: Measured, samples: int) -> Figures:
    """Input to result to reaped, and what else one could do."""
    ways: list[tuple[str, Callable[[], None], int]] = [
        ("this sandbox", lambda: evaluate(zygote, PROGRAM), samples),
        ("subprocess, importing numpy", whole_process, max(5, samples // 30)),
    ]
    bwrap = shutil.which("bwrap")
    if bwrap:
        prefix = (bwrap, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/",
                  "--proc", "/proc", "--dev", "/dev")  # fmt: skip
        ways.append(
            ("bubblewrap + python + numpy", lambda: whole_process(prefix), max(5, samples // 30))
        )
    print(f"\none call with numpy, input to result to reaped, x bare fork, n = {samples}")
    found: Figures = {}
    for name, way, count in ways:
        bare, seconds = [], []
        way()
        for _ in range(count):
            bare += zygote.stages("fork")
            started = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - started)
        (bare_50, bare_99), (p50, p99) = quantiles(bare), quantiles(seconds)
        print(
            f"  {name:28s} p50 {p50 / bare_50:6.2f}  p99 {p99 / bare_99:6.2f}"
            f"   ({p50:.2f} and {p99:.2f} ms; bare {bare_50:.2f} and {bare_99:.2f}; n = {count})"
        )
        found[f"{name}, p50"], found[f"{name}, p99"] = p50 / bare_50, p99 / bare_99
        found[f"{name}, p50 ms"], found[f"{name}, p99 ms"] = p50, p99
    if not bwrap:
        print("  bubblewrap + python + numpy  not installed here")
    return found


def _worker(kind: str, barrier: Barrier, results: "multiprocessing.Queue[float]") -> None:
    zygote = None if kind == "subprocess" else Zygote(choose_layers(), ("numpy",))
    calls = 1
    if kind == "instances":
        calls = INSTANCES
    done = 0
    try:
        barrier.wait()
        started = time.perf_counter()
        while time.perf_counter() - started < THROUGHPUT_S:
            if zygote is None:
                whole_process()
            else:
                evaluate(zygote, TRIVIAL if kind == "instances" else PROGRAM, calls)
            done += calls
        results.put(done / (time.perf_counter() - started))
    finally:
        if zygote is not None:
            zygote.close()


def on_all_cores(kind: str) -> float:
    """Calls per second of one worker per core, each with its own zygote."""
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(cores), context.Queue()
    workers = [context.Process(target=_worker, args=(kind, barrier, results)) for _ in range(cores)]
    for worker in workers:
        worker.start()
    total = sum(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    return total


def throughput() -> Figures:
    """Calls per second, one worker per core."""
    found = {kind: on_all_cores(kind) for kind in ("sandbox", "subprocess", "instances")}
    ratio = found["sandbox"] / found["subprocess"]
    print("\ncalls per second on all cores, one zygote per core")
    print(f"  one call per child     {found['sandbox']:8.0f}   {ratio:.1f} x subprocess + numpy")
    print(f"  subprocess + numpy     {found['subprocess']:8.1f}")
    print(f"  {INSTANCES} calls per child    {found['instances']:8.0f}   fork and reap included")
    return {**found, "ratio": ratio}


def one_child(zygote: Zygote) -> Figures:
    """Trivial calls of one child that stays alive."""
    candidate = SandboxedCandidate(zygote, TRIVIAL, Limits(), seed=1)
    rates, rates_of_many = [], []
    for _ in range(40):
        candidate.call("algorithm", 5)
        started = time.perf_counter()
        for _ in range(INSTANCES):
            candidate.call("algorithm", 5)
        rates.append(INSTANCES / (time.perf_counter() - started))
        started = time.perf_counter()
        assert len(candidate.call_many("algorithm", [(5,)] * INSTANCES)) == INSTANCES
        rates_of_many.append(INSTANCES / (time.perf_counter() - started))
    cpu_us = _cpu_us_of_a_call(candidate)
    candidate.close()
    echoes = sandbox_endurance.echoes_per_second()
    found = {"median": statistics.median(rates), "best": max(rates), "echoes": echoes,
             "many": statistics.median(rates_of_many), "cpu_us": cpu_us}  # fmt: skip
    print("\ntrivial calls per second of one child that is alive (no numpy)")
    print(f"  one by one: median {found['median']:.0f}, best {found['best']:.0f} "
          f"of 40 x {INSTANCES} calls")  # fmt: skip
    print(f"  call_many: median {found['many']:.0f}, best {max(rates_of_many):.0f}")
    print(f"  {cpu_us:.1f} us of CPU time a call, both sides together")
    print(f"  one by one is {found['median'] / echoes:.2f} x the {echoes:.0f}/s of 100 bytes there "
          "and back")  # fmt: skip
    return found


def _cpu_us_of_a_call(candidate: SandboxedCandidate, calls: int = 4000) -> float:
    child = candidate._child
    assert child is not None
    started = time.process_time() + child.cpu_s()
    for _ in range(calls):
        candidate.call("algorithm", 5)
    return (time.process_time() + child.cpu_s() - started) / calls * 1e6


def memory(zygote: Measured) -> Figures:
    """What the zygote holds."""
    text = Path(f"/proc/{zygote.inner_pid()}/smaps_rollup").read_text()
    rows = dict(line.split()[:2] for line in text.splitlines()[1:])
    found = {name: int(rows[f"{name}:"]) / 1024 for name in ("Rss", "Pss")}
    print(f"\na zygote with numpy: RSS {found['Rss']:.1f} MiB, PSS {found['Pss']:.1f} MiB")
    return found


def facts() -> str:
    """The machine, and how busy it is."""
    load = os.getloadavg()[0]
    return (
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {load:.2f}, layers: {' + '.join(choose_layers())}"
    )


def measure(samples: int) -> dict[str, object]:
    """Everything but endurance; prints as it goes."""
    machine = facts()
    print(machine)
    with measured(("numpy",)) as zygote:
        start = layers(zygote, samples)
        call = one_call(zygote, samples)
        held = memory(zygote)
    with measured(()) as zygote:
        alive = one_child(zygote)
    rates = throughput()
    reached = {
        "one call, p50, x bare fork": call["this sandbox, p50"],
        "one call, p99, x bare fork": call["this sandbox, p99"],
        "calls/s on all cores, x subprocess + numpy": rates["ratio"],
        "calls/s of one child, 100 instances": alive["many"],
    }
    print("\ntargets")
    for name, (side, target) in TARGETS.items():
        good = reached[name] <= target if side == "at most" else reached[name] >= target
        said = "reached" if good else "MISSED"
        print(f"  {name:44s} {reached[name]:10.2f}   {side} {target:g}: {said}")
    return {"machine": machine, "samples": samples, "load_after": os.getloadavg()[0],
            "layers": start, "one_call": call, "memory_mib": held, "one_child": alive,
            "calls_per_second": rates, "targets": reached}  # fmt: skip


def main() -> int:
    """Measure what is asked for; 1 where endurance found a leak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--evaluations", type=int, help="endurance, this many in a row")
    options = parser.parse_args()
    found: dict[str, object]
    if options.evaluations is None:
        found = measure(options.samples)
    else:
        print(facts())
        found = sandbox_endurance.endure(options.evaluations)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found.get("leaks") else 0


if __name__ == "__main__":
    sys.exit(main())
