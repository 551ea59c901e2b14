"""How much a hosted model's stack costs: time beyond the endpoint's own, and CPU per call.

    python bench/models.py

Everything is asked of a LoopbackServer in a process of its own, so its CPU time is not counted.
Beside our stack runs a bare loop over the `openai` SDK with the same number of threads. Absolute
times depend on the machine and its load; the ratios are what to look at.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from selftaught.language_model import ModelSettings, Request
from selftaught.models.anthropic_messages import AnthropicModel
from selftaught.models.google_generate import GoogleModel
from selftaught.models.hosted import HostedModel
from selftaught.models.openai_compatible import OpenAICompatibleModel

LATENCY_S = 0.5
PROMPT = "Improve this program.\n\n```python\n" + "x = 1\n" * 200 + "```\n"
EXPERTISE = "You are an expert programmer."


@contextmanager
def server(dialect: str, latency_s: float) -> Iterator[str]:
    """A LoopbackServer in its own process; yields its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "selftaught.testing.loopback_server", "--speaks", dialect,
         "--latency", str(latency_s)],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def measured(ask: Callable[[int], object], calls: int, threads: int) -> tuple[float, float]:
    """Wall seconds of all calls, and CPU milliseconds of each, after one call that warms up."""
    with ThreadPoolExecutor(threads) as pool:
        ask(-1)
        wall, cpu = time.perf_counter(), time.process_time()
        list(pool.map(ask, range(calls)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, 1000 * cpu / calls


def ours(model: HostedModel) -> Callable[[int], object]:
    """One call by our stack."""

    def ask(number: int) -> object:
        request = Request(expertise=EXPERTISE, message=PROMPT)
        return model.respond(request, seed=0, occurrence=0, key=f"bench/{number}")

    return ask


def bare(url: str) -> Callable[[int], object]:
    """One call by the SDK alone, with its own client and its own parsing."""
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)

    def ask(number: int) -> object:
        messages = [
            {"role": "system", "content": EXPERTISE},
            {"role": "user", "content": PROMPT},
        ]
        answer = client.chat.completions.create(
            model="tiny",
            messages=messages,  # type: ignore[arg-type]
            temperature=0.7,
        )
        return answer.choices[0].message.content

    return ask


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    made = {
        "openai": OpenAICompatibleModel,
        "anthropic": AnthropicModel,
        "google": GoogleModel,
    }
    found: dict[str, object] = {}
    for dialect, make in made.items():
        row: dict[str, float] = {}
        with (
            server(dialect, LATENCY_S) as url,
            make("tiny", base_url=url, settings=ModelSettings(concurrency=8)) as model,
        ):
            wall, _ = measured(ours(model), 60, 60)
            ideal = -(-60 // 8) * LATENCY_S
            row["60 calls of 0.5 s, 8 at once: time over ideal"] = round(wall / ideal, 3)
        with (
            server(dialect, 0.0) as url,
            make("tiny", base_url=url, settings=ModelSettings(concurrency=8)) as model,
        ):
            _, row["CPU ms per call, 8 at once"] = measured(ours(model), 400, 8)
        with (
            server(dialect, LATENCY_S) as url,
            make("tiny", base_url=url, settings=ModelSettings(concurrency=200)) as model,
        ):
            wall, row["CPU ms per call, 200 at once"] = measured(ours(model), 200, 200)
            row["200 calls of 0.5 s, 200 at once: time over ideal"] = round(wall / LATENCY_S, 3)
        if dialect == "openai":
            with server(dialect, 0.0) as url:
                _, cpu = measured(bare(url), 400, 8)
            row["bare SDK, CPU ms per call, 8 at once"] = cpu
            row["ours over bare SDK"] = round(row["CPU ms per call, 8 at once"] / cpu, 3)
            with server(dialect, LATENCY_S) as url:
                wall, cpu = measured(bare(url), 200, 200)
            row["bare SDK, CPU ms per call, 200 at once"] = cpu
            row["bare SDK, 200 calls: time over ideal"] = round(wall / LATENCY_S, 3)
        found[dialect] = {name: round(value, 3) for name, value in row.items()}
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
