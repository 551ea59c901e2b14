"""selftaught: the Self-Taught Optimizer (STOP, arXiv 2310.02304) as an honest laboratory.

    import selftaught as st

    run = st.run([st.Task.load("three_sat")], rounds=3)
    print(run.best.source, run.scores)

The names below are the public surface; `selftaught.testing` holds the kit for testing tasks,
models and sandboxes of your own.
"""

import importlib
from typing import TYPE_CHECKING, Any

from selftaught.budget import Budget, RunLimits
from selftaught.errors import SelftaughtError
from selftaught.language_model import LanguageModel
from selftaught.solution import Solution, extract_code
from selftaught.task import Task
from selftaught.version import __version__

if TYPE_CHECKING:
    from selftaught.runs.config import RunConfig
    from selftaught.runs.launch import resume, run, start
    from selftaught.runs.result import Run

__all__ = [
    "Budget",
    "LanguageModel",
    "Run",
    "RunConfig",
    "RunLimits",
    "SelftaughtError",
    "Solution",
    "Task",
    "__version__",
    "extract_code",
    "resume",
    "run",
    "start",
]

# Loaded on first use: reading tasks and improvers needs none of what runs them.
_LATE = {
    "Run": "selftaught.runs.result",
    "RunConfig": "selftaught.runs.config",
    "resume": "selftaught.runs.launch",
    "run": "selftaught.runs.launch",
    "start": "selftaught.runs.launch",
}


def __getattr__(name: str) -> Any:
    """Find the public names that are loaded late."""
    if name not in _LATE:
        raise AttributeError(f"module 'selftaught' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)
