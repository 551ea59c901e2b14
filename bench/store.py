"""What a store with a million events costs: appends, show, every query, resume, memory.

    python bench/store.py                         a million events, in SQLite and Postgres
    python bench/store.py --events 20000 --calls 500 --no-postgres      a quick look
    python bench/store.py --json FILE             and keep the figures

Times depend on the machine and its load, which is printed beside them. Memory is the resident set
at its highest, of a process of its own for each size.
"""

import argparse
import functools
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import store_events as made
import store_resume

from selftaught.history import read_history
from selftaught.runs.costs import read_costs
from selftaught.store import queries
from selftaught.store.event_store import Store
from selftaught.store.opening import open_store
from selftaught.strategies_used import strategies_used
from selftaught.task import Task

TESTS = Path(__file__).parent.parent / "tests"
APPENDS = 10_000
TIMES = 40
THREADS = 8
CALLS_OF_A_JOB = 100
SMALLER = (10_000, 100_000)
OF_TASK = (f"tsp@{made.DIGEST}", "val")


def timed(call: Callable[[], object], times: int = TIMES) -> dict[str, float]:
    """Median and 95th percentile of a call, in ms, after one to get warm."""
    call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return {
        "p50, ms": statistics.median(taken),
        "p95, ms": statistics.quantiles(taken, n=20)[-1],
    }


def reads(name: str) -> dict[str, dict[str, float]]:
    """Every query of the newest run of a store."""
    with open_store(name, writable=False) as store:
        run = store.resolve("latest")
        last = store.run(run).events
        jobs = itertools.cycle(
            event.key for _, event in store.keyed(run, "improved", "validation/", TIMES)
        )
        places = itertools.cycle(range(0, last, max(1, last // TIMES)))
        page = queries.best_candidates(store, run, *OF_TASK)
        asked: dict[str, Callable[[], object]] = {
            "show: history and strategies": lambda: shown(store, run),
            "show --costs: costs by round, phase, improver, model": lambda: read_costs(
                store, run, with_calls=False
            ),
            "list of runs": lambda: queries.run_list(store),
            "header, rounds, meta-utilities": lambda: read_history(store, run),
            "anytime curve of a job": lambda: queries.anytime(store, run, next(jobs)),
            "calls of a job": lambda: queries.exchanges(store, run, next(jobs)),
            "best candidates, first page": lambda: queries.best_candidates(store, run, *OF_TASK),
            "best candidates, next page": lambda: queries.best_candidates(
                store, run, *OF_TASK, after=page[-1]
            ),
            "failures by kind": lambda: queries.failures_by_kind(store, run),
            "attempts, a page": lambda: queries.attempts(store, run, after=next(places)),
            "events after a number, a page": lambda: queries.tail(store, run, after=next(places)),
            "source of a candidate": lambda: store.text(page[0].solution),
        }
        return {what: timed(call) for what, call in asked.items()}


def shown(store: Store, run: str) -> object:
    """What `show RUN` reads."""
    history = read_history(store, run)
    return history, strategies_used(store, history)


def appends(name: str) -> dict[str, float]:
    """Events a second, one by one as a run has them, and from many threads at once."""
    found = {}
    with open_store(name, writable=True) as store:
        for threads in (1, THREADS):
            run = store.new_run({}, "appends")
            events = list(itertools.islice(made.events(10 * APPENDS, seed=threads), APPENDS))
            work = functools.partial(append_all, store, run, events.pop, threading.Lock())
            events.reverse()
            workers = [threading.Thread(target=work) for _ in range(threads)]
            began = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            seconds = time.perf_counter() - began
            found[f"appended events/s, threads: {threads}"] = APPENDS / seconds
    return found


def append_all(
    store: Store, run: str, take: Callable[[], made.Recorded], lock: threading.Lock
) -> None:
    """Append what is taken until there is no more."""
    while True:
        try:
            with lock:
                event, texts = take()
        except IndexError:
            return
        store.append_with_texts(run, event, texts)


def command_wall(name: str) -> dict[str, float]:
    """The whole command `show RUN`, from start to end."""
    with open_store(name, writable=False) as store:
        # Not the newest: appends came after it.
        run = max(store.runs(), key=lambda row: row.events).id
    command = [sys.executable, "-m", "selftaught", "show", run, "--store", name]
    return timed(lambda: subprocess.run(command, check=True, capture_output=True), times=7)


# --- each in a process of its own, for its memory -----------------------------------------------


def measure(what: str, name: str, number: int) -> float:
    """Do one thing and return what it took, in seconds."""
    began = time.monotonic()
    if what == "show":
        with open_store(name, writable=False) as store:
            shown(store, store.resolve("latest"))
    elif what == "replay":
        return store_resume.replay(name)
    elif what == "record":
        store_resume.busy_run(name, number, Task.load("tsp"), THREADS)
    return time.monotonic() - began


def peak_mib() -> float:
    """The resident set of this process at its highest.

    Not `ru_maxrss`: that outlives exec, so a child would show the memory of who started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 1024


def in_a_process(what: str, name: str, number: int = 0) -> dict[str, float]:
    """Measure in a process of its own: seconds and MiB."""
    command = [sys.executable, __file__, "--measure", what, name, str(number)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


@contextmanager
def postgres() -> Iterator[Callable[[], str] | None]:
    """What makes an empty database in a server of our own; None where none is installed."""
    sys.path.insert(0, str(TESTS))
    from postgres_server import binaries, postgres_server

    if binaries() is None:
        yield None
        return
    with postgres_server() as server:
        yield server.new_database


def of_store(name: str, events: int) -> dict[str, object]:
    """Make a store of so many events and measure it."""
    began = time.monotonic()
    made.fill(name, made.config(), made.events(events))
    print(f"made {events:,} events in {time.monotonic() - began:.0f} s", flush=True)
    found: dict[str, object] = {"load": os.getloadavg()[0], "reads": reads(name)}
    found["show, the whole command"] = command_wall(name)
    found.update(appends(name))
    return found


def resumed(folder: Path, calls: int) -> dict[str, float]:
    """Resume runs of so many calls, until they go on live.

    One has jobs of `CALLS_OF_A_JOB`, and was killed in the last; its record is made, not run. The
    other is one job whose calls all follow from one another, which is the longest way back that
    a run can have: it is recorded, stopped and resumed.
    """
    task = store_resume.write_task(folder / "count")
    name = str(folder / "resumed.db")
    of_many = store_resume.made_run(Task.load(str(task)), calls // CALLS_OF_A_JOB, CALLS_OF_A_JOB)
    made.fill(name, *of_many)
    many = in_a_process("replay", name)
    _remove(folder, "resumed.db")
    recorded_s = store_resume.record(task, name, calls)
    one = in_a_process("replay", name)
    _remove(folder, "resumed.db")
    return {
        "calls": calls,
        f"jobs of {CALLS_OF_A_JOB}: until it goes on live, s": many["seconds"],
        "one job: recorded in, s": recorded_s,
        "one job: until it goes on live, s": one["seconds"],
        "one job: CPU of the host, s": one["cpu_s"],
        "one job: CPU of its processes, s": one["cpu_of_children_s"],
        "one job: memory, MiB": one["mib"],
    }


def memory(folder: Path, events: int) -> dict[str, dict[str, float]]:
    """MiB at several sizes of a run: shown, resumed, recorded."""
    found: dict[str, dict[str, float]] = {"show": {}, "resume": {}, "record": {}}
    for size in [*(s for s in SMALLER if s < events), events]:
        name = str(folder / "shown.db")
        made.fill(name, made.config(), made.events(size))
        found["show"][f"{size:,}"] = in_a_process("show", name)["mib"]
        _remove(folder, "shown.db")
        found["resume"][f"{size:,}"] = resumed_memory(folder, size)
        name = str(folder / "recorded.db")
        found["record"][f"{size:,}"] = in_a_process("record", name, size)["mib"]
        _remove(folder, "recorded.db")
    return found


def resumed_memory(folder: Path, events: int) -> float:
    """MiB of resuming a run of so many events that was killed in its last job of 1,000 calls."""
    task = Task.load(str(folder / "count"))
    name = str(folder / "made.db")
    made.fill(name, *store_resume.made_run(task, max(1, events // 3_000), 1_000))
    found = in_a_process("replay", name)
    _remove(folder, "made.db")
    return found["mib"]


def _remove(folder: Path, name: str) -> None:
    for path in folder.glob(f"{name}*"):
        path.unlink()


def targets(figures: dict[str, dict[str, object]], calls: int) -> dict[str, float]:
    """The figures that have targets, the worst where there are several."""
    found = {}
    for kind in ("sqlite", "postgres"):
        if kind in figures:
            of_kind = figures[kind]["reads"]
            assert isinstance(of_kind, dict)
            p95 = {what: one["p95, ms"] for what, one in of_kind.items()}
            found[f"{kind}: show, p95, ms (target 100)"] = max(
                value for what, value in p95.items() if what.startswith("show")
            )
            found[f"{kind}: slowest query, p95, ms (target 100)"] = max(p95.values())
    for jobs, says in ((f"jobs of {CALLS_OF_A_JOB}", "many jobs"), ("one job", "one job")):
        seconds = figures["resume"][f"{jobs}: until it goes on live, s"]
        assert isinstance(seconds, float)
        found[f"resume of 10,000 calls, {says}, s (target 5)"] = seconds * 10_000 / calls
    for what, sizes in figures.get("memory", {}).items():
        assert isinstance(sizes, dict)
        values = list(sizes.values())
        found[f"memory, {what}: largest over smallest run (target 1.5)"] = values[-1] / values[0]
    return found


def show_figures(figures: dict[str, dict[str, object]]) -> None:
    """Print one table."""
    for section, found in figures.items():
        print(f"\n{section}")
        for what, value in found.items():
            if what == "reads":
                assert isinstance(value, dict)
                for query, one in value.items():
                    print(f"  {query:<56} p50 {one['p50, ms']:9.2f}  p95 {one['p95, ms']:9.2f} ms")
            elif isinstance(value, dict):
                told = ", ".join(f"{k} {v:,.1f}" for k, v in value.items())
                print(f"  {what:<56} {told}")
            else:
                print(f"  {what:<56} {value:13,.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=10_000, help="of the run that is resumed")
    parser.add_argument("--no-postgres", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, name, number = options.measure
        seconds = measure(what, name, int(number))
        own, below = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        found = {
            "seconds": seconds,
            "mib": peak_mib(),
            "cpu_s": own.ru_utime + own.ru_stime,
            "cpu_of_children_s": below.ru_utime + below.ru_stime,
        }
        print(json.dumps(found))
        return
    figures: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        figures["sqlite"] = of_store(str(folder / "s.db"), options.events)
        _remove(folder, "s.db")
        figures["resume"] = {"load": os.getloadavg()[0], **resumed(folder, options.calls)}
        if not options.no_memory:
            figures["memory"] = dict(memory(folder, options.events))
        if not options.no_postgres:
            with postgres() as new_database:
                if new_database is not None:
                    figures["postgres"] = of_store(new_database(), options.events)
    figures["targets"] = dict(targets(figures, options.calls))
    print(f"load {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores")
    show_figures(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
