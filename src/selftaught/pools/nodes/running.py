"""The function that Ray and Slurm carry to another machine: it runs an agent there.

It travels by value, so it needs nothing but Python before it starts the agent, and a machine
without this package says so.
"""

from collections.abc import Callable


def run_agent_function() -> Callable[[bytes | str], tuple[int, str]]:
    """Return a function that runs an agent, and returns its exit code and last words.

    Its argument is what the agent reads, or the path of a file that holds it.
    """

    def run_agent(start: bytes | str) -> tuple[int, str]:
        import os
        import subprocess
        import sys
        from pathlib import Path

        line = start if isinstance(start, bytes) else Path(start).read_bytes()
        # Of what the node was started with, keys maybe, nothing goes on.
        passed = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH")
        process = subprocess.Popen(
            [sys.executable, "-m", "selftaught.pools.nodes.agent"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in passed if name in os.environ},
        )
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        # Its input stays open: the agent ends when this process does.
        lines = process.stderr.read().decode(errors="replace").strip().splitlines()
        process.stdin.close()
        process.stderr.close()
        return process.wait(), lines[-1][:600] if lines else ""

    return run_agent
