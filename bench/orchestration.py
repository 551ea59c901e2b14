"""What the host adds to a run: wall time, CPU time, memory, and the time to the first request.

    python bench/orchestration.py                60 candidates, a model that takes 0.5 s, 8 at once
    python bench/orchestration.py --json FILE    and keep the figures

The model is a server on this machine; the improver asks for all candidates in one call and then
scores one after another. Beside it, in the same run, a bare client: threads that ask, a pool of
processes that evaluates what comes back, no sandbox, no record.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from selftaught.testing.loopback_http import LoopbackServer, ReceivedRequest

CANDIDATES = 60
AT_ONCE = 8
LATENCY_S = 0.5
FEW = 12

TASK = {
    "task.toml": """summary = "count"
[normalisation]
best = 100.0
[splits.val]
seed = 4321
instances = 5
[splits.test]
seed = 5678
instances = 5
""",
    "description.md": "Return a large number.",
    "solution.py": "def algorithm(x):\n    return x\n",
    "utility.py": '''"""The mean of what a program returns."""
from selftaught.utility import over_instances

def score(solution, split, seed):
    return over_instances(lambda x: float(solution.call("algorithm", x)), split, seed)
''',
}
IMPROVER = """from helpers import extract_code

def improve_algorithm(initial_solution, utility, language_model):
    n = language_model.max_responses_per_call
    answers = language_model.batch_prompt("An expert.", [f"Idea {i}" for i in range(n)])
    return max(extract_code(answers), key=utility)
"""
BARE = """import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import openai

def evaluate(program):
    space = {}
    exec(program, space)
    return sum(space["algorithm"](x) for x in range(5))

if __name__ == "__main__":
    client = openai.OpenAI(api_key="none", base_url=sys.argv[1], max_retries=0)
    with ProcessPoolExecutor() as processes, ThreadPoolExecutor(int(sys.argv[3])) as threads:
        def ask(i):
            answer = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": f"Idea {i}"}]
            )
            code = answer.choices[0].message.content.split("```")[1].removeprefix("python")
            return processes.submit(evaluate, code).result()
        print(max(threads.map(ask, range(int(sys.argv[2])))))
"""


def answer(received: ReceivedRequest, index: int) -> str:
    """Another program for every prompt."""
    text = received.body["messages"][-1]["content"]
    return f"So:\n\n```python\ndef algorithm(x):\n    return x + {text.split()[-1]} % 7\n```\n"


class Measured:
    """One command, run to its end."""

    def __init__(self, command: list[str], server: LoopbackServer, *, watch_memory: bool) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        asked = len(server.log)
        began_at, began = time.time(), time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.peak: dict[int, tuple[str, float]] = {}
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(process.pid, stop))
        if watch_memory:
            watcher.start()
        _, said = process.communicate(timeout=120)
        self.wall_s = time.monotonic() - began
        stop.set()
        if watch_memory:
            watcher.join()
        if process.returncode:
            raise SystemExit(said.decode())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_s = sum(
            getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime")
        )
        self.first_request_s = server.log[asked].received_at - began_at

    @property
    def peak_mib(self) -> float:
        """Proportional memory of all processes together, where it was highest."""
        return sum(mib for _, mib in self.peak.values())

    def _watch(self, root: int, stop: threading.Event) -> None:
        while not stop.wait(0.1):
            now = {pid: _memory(pid) for pid in _tree(root)}
            if sum(mib for _, mib in now.values()) > self.peak_mib:
                self.peak = now


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        # Threads start processes too.
        for task in Path(f"/proc/{pid}/task").iterdir():
            if task.name != str(pid):
                children += (task / "children").read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _memory(pid: int) -> tuple[str, float]:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "", 0.0
    (kilobytes,) = [line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")]
    return command.strip()[-60:], int(kilobytes) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", action="store_true", help="show the memory of each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        LoopbackServer(answer, latency_s=LATENCY_S) as server,
    ):
        figures = measure(Path(name), server, options.repeats, options.processes)
    print(f"load {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores; medians")
    for what, value in figures.items():
        print(f"{what:<52} {value:9.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def measure(folder: Path, server: LoopbackServer, repeats: int, show: bool) -> dict[str, float]:
    """Run the command and the bare client in turn."""
    for name, text in TASK.items():
        (folder / name).write_text(text)
    (folder / "improver.py").write_text(IMPROVER)
    (folder / "bare.py").write_text(BARE)
    many, few, plain, bare = [], [], [], []
    for number in range(repeats):
        many.append(
            Measured(_command(folder, server, CANDIDATES, number), server, watch_memory=False)
        )
        few.append(Measured(_command(folder, server, FEW, number), server, watch_memory=False))
        plain.append(
            Measured(
                [*_command(folder, server, CANDIDATES, number), "--no-speculate"],
                server,
                watch_memory=False,
            )
        )
        command = [
            sys.executable,
            str(folder / "bare.py"),
            server.url,
            str(CANDIDATES),
            str(AT_ONCE),
        ]
        bare.append(Measured(command, server, watch_memory=False))
    memory = Measured(_command(folder, server, CANDIDATES, repeats), server, watch_memory=True)
    # The same where both the scorer and the candidates use numpy, as most shipped tasks do.
    utility = folder / "utility.py"
    utility.write_text(f"import numpy\n{TASK['utility.py']}")
    toml = folder / "task.toml"
    toml.write_text(f'modules = ["numpy"]\n{TASK["task.toml"]}')
    larger = Measured(_command(folder, server, CANDIDATES, repeats + 1), server, watch_memory=True)
    if show:
        for what, peak in (("plain", memory.peak), ("numpy", larger.peak)):
            for command_line, mib in sorted(peak.values(), key=lambda one: -one[1]):
                print(f"{what}  {mib:7.1f} MiB  {command_line}")
    ideal_s = -(-CANDIDATES // AT_ONCE) * LATENCY_S
    middle = statistics.median
    cpu_s = middle(m.cpu_s for m in many) - middle(f.cpu_s for f in few)
    return {
        "ideal, s": ideal_s,
        "wall, s": middle(m.wall_s for m in many),
        "wall / ideal (target 1.25)": middle(m.wall_s for m in many) / ideal_s,
        "wall without speculation, s": middle(p.wall_s for p in plain),
        "wall of the bare client / ideal": middle(b.wall_s for b in bare) / ideal_s,
        "wall of the bare client, s": middle(b.wall_s for b in bare),
        "first request, s from the start (target 1.0)": middle(m.first_request_s for m in many),
        "first request of the bare client, s": middle(b.first_request_s for b in bare),
        "CPU per candidate, start apart, ms (target 10)": 1000 * cpu_s / (CANDIDATES - FEW),
        "CPU of the whole command, s": middle(m.cpu_s for m in many),
        "peak memory of all processes, MiB (target 200)": memory.peak_mib,
        "processes at the peak": len(memory.peak),
        "peak memory with numpy, MiB": larger.peak_mib,
        "processes at that peak": len(larger.peak),
    }


def _command(folder: Path, server: LoopbackServer, candidates: int, number: int) -> list[str]:
    return [
        *(sys.executable, "-m", "selftaught", "improve", str(folder)),
        *("--improver", str(folder / "improver.py"), "--baselines", "none"),
        *("--calls", "1", "--responses", str(candidates)),
        *("--model", "openai/m", "--base-url", server.url),
        *("--store", str(folder / f"{candidates}-{number}.db")),
    ]


if __name__ == "__main__":
    main()
