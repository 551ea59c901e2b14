"""All timings in one go: one table of ratios against their targets, kept with the machine's facts.

    python bench/table.py                        all of them (about 45 minutes)
    python bench/table.py orchestration store    some of them
    python bench/table.py --out FOLDER           where the two files go; bench/results without it

Each bench runs in a process of its own, one after another, and measures both sides of its ratios
itself. Two files are kept, named by the date: `.json` with every figure of every bench, and `.md`
with the table. A bench that was measured on the same day and machine and is not measured now stays.
"""

import argparse
import datetime
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftaught.version import __version__

HERE = Path(__file__).parent
LIMIT_S = 3600


@dataclass(frozen=True)
class Row:
    """A figure that has a target.

    Attributes:
        bench: the file in this folder that measures it.
        keys: where it stands in what the bench writes.
        says: what it is, with its unit.
        side: `at most` or `at least`; empty where the figure only stands beside the others.
        target: the number that it is held against.
    """

    bench: str
    keys: tuple[str, ...]
    says: str
    side: str = ""
    target: float = 0.0

    def found(self, figures: dict[str, Any]) -> float | None:
        """The figure, or None where the bench could not measure it."""
        value: Any = figures
        for key in self.keys:
            if not isinstance(value, dict) or key not in value:
                return None
            value = value[key]
        return float(value)

    def verdict(self, value: float | None) -> str:
        """Whether the target is met."""
        if value is None:
            return "not measured"
        if not self.side:
            return ""
        good = value <= self.target if self.side == "at most" else value >= self.target
        return "met" if good else "MISSED"


ROWS = (
    Row("orchestration", ("wall / ideal (target 1.25)",),
        "60 candidates, a model of 0.5 s, 8 at once: wall over ideal, start included",
        "at most", 1.25),
    Row("orchestration", ("wall of the bare client / ideal",),
        "the same of a bare client with a pool of processes"),
    Row("orchestration", ("first request, s from the start (target 1.0)",),
        "first request to the model, s from the command", "at most", 1.0),
    Row("orchestration", ("CPU per candidate, start apart, ms (target 10)",),
        "CPU time per candidate outside of it, start apart, ms", "at most", 10),
    Row("orchestration", ("peak memory with numpy, MiB",),
        "memory of all processes at the peak (PSS), with numpy, MiB", "at most", 190.7),
    Row("speculation", ("gain, x",),
        "seed improver, scores of 0.2 s, two slots: gain by scoring ahead", "at least", 1.8),
    Row("sandbox", ("targets", "one call, p50, x bare fork"),
        "one call in the sandbox over a bare fork, p50", "at most", 3),
    Row("sandbox", ("targets", "one call, p99, x bare fork"),
        "the same, p99", "at most", 3),
    Row("sandbox", ("targets", "calls/s on all cores, x subprocess + numpy"),
        "calls/s on all cores, over a subprocess that imports numpy", "at least", 25),
    Row("sandbox", ("targets", "calls/s of one child, 100 instances"),
        "calls/s of one child", "at least", 20_000),
    Row("models", ("openai", "60 calls of 0.5 s, 8 at once: time over ideal"),
        "60 model calls of 0.5 s, 8 at once: time over ideal"),
    Row("models", ("openai", "ours over bare SDK"),
        "CPU time of a model call over that of OpenAI's SDK"),
    Row("load_noise", ("maxcut: busy, spread / standard error",),
        "maxcut: spread of a score under load over its standard error", "at most", 1),
    Row("load_noise", ("three_sat: busy, spread / standard error",),
        "three_sat: the same", "at most", 1),
    Row("store", ("targets", "sqlite: show, p95, ms (target 100)"),
        "a run of 1,000,000 events in SQLite: `show`, p95, ms", "at most", 100),
    Row("store", ("targets", "sqlite: slowest query, p95, ms (target 100)"),
        "the same: the slowest of all queries, p95, ms", "at most", 100),
    Row("store", ("targets", "postgres: show, p95, ms (target 100)"),
        "1,000,000 events in Postgres: `show`, p95, ms", "at most", 100),
    Row("store", ("targets", "postgres: slowest query, p95, ms (target 100)"),
        "the same: the slowest of all queries, p95, ms", "at most", 100),
    Row("store", ("sqlite", "appended events/s, threads: 1"),
        "events appended to a large run in SQLite, one by one, per second"),
    Row("store", ("targets", "resume of 10,000 calls, many jobs, s (target 5)"),
        "resume of a run with 10,000 model calls in jobs of 100, until it goes on, s",
        "at most", 5),
    Row("store", ("targets", "resume of 10,000 calls, one job, s (target 5)"),
        "the same in one job, each call after the other, s", "at most", 5),
    Row("store", ("targets", "memory, show: largest over smallest run (target 1.5)"),
        "memory of `show`: a run of 1,000,000 events over one of 10,000", "at most", 1.5),
    Row("store", ("targets", "memory, resume: largest over smallest run (target 1.5)"),
        "memory of `resume`: the same", "at most", 1.5),
    Row("store", ("targets", "memory, record: largest over smallest run (target 1.5)"),
        "memory of a run that records: the same", "at most", 1.5),
    Row("ray_scaling", ("2 nodes: times as fast as one (target 1.8)",),
        "scoring on two Ray nodes of one core: times as fast as on one", "at least", 1.8),
    Row("ray_scaling", ("3 nodes: times as fast as one",),
        "on three nodes, which share two cores here: the same"),
)  # fmt: skip
NAMES = tuple(dict.fromkeys(row.bench for row in ROWS))


def machine() -> dict[str, object]:
    """What the figures depend on."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "selftaught": __version__,
    }


def _commit() -> str:
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def run(name: str) -> dict[str, Any]:
    """Run one bench; its figures, with the load of the machine at its start and how it ended."""
    found: dict[str, Any] = {
        "load_at_start": round(os.getloadavg()[0], 2),
        "commit": _commit(),
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "figures.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(kept)]
        try:
            subprocess.run(command, timeout=LIMIT_S, check=True)
            found["figures"] = json.loads(kept.read_text())
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            found["failed"] = str(error)
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def earlier(file: Path, facts: dict[str, object]) -> dict[str, dict[str, Any]]:
    """The benches in a file that were measured where this is."""
    if not file.exists():
        return {}
    kept = json.loads(file.read_text())
    return dict(kept["benches"]) if kept["machine"] == facts else {}


def table(facts: dict[str, object], benches: dict[str, dict[str, Any]]) -> list[str]:
    """The table, in Markdown."""
    told = (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {facts['system']}, "
        f"Python {facts['python']}, SQLite {facts['sqlite']}; selftaught {facts['selftaught']}."
    )
    heading = "| | measured | target | | load | commit |"
    lines = [told, "", heading, "|---|---:|---:|---|---:|---|"]
    for row in ROWS:
        if row.bench not in benches:
            continue
        bench = benches[row.bench]
        value = row.found(bench.get("figures", {}))
        shown = "" if value is None else f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
        target = f"{row.side} {row.target:,g}" if row.side else ""
        lines.append(
            f"| {row.says} | {shown} | {target} | {row.verdict(value)} "
            f"| {bench['load_at_start']:.2f} | {bench['commit']} |"
        )
    return lines


def main() -> int:
    """Measure, print, keep; 1 where a bench failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("benches", nargs="*", help=f"of {', '.join(NAMES)}; all without any")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    unknown = sorted(set(options.benches) - set(NAMES))
    if unknown:
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    facts = machine()
    now = datetime.datetime.now(datetime.UTC)
    file = options.out / f"{now:%Y-%m-%d}.json"
    benches = earlier(file, facts)
    for name in options.benches or NAMES:
        print(f"\n== {name}", flush=True)
        benches[name] = run(name)
    lines = table(facts, benches)
    print("\n" + "\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    kept = {"measured_at": f"{now:%Y-%m-%dT%H:%M:%SZ}", "machine": facts, "benches": benches}
    file.write_text(json.dumps(kept, indent=1) + "\n")
    file.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(f"\nKept in {file} and {file.with_suffix('.md').name}.")
    return 1 if any("failed" in bench for bench in benches.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
