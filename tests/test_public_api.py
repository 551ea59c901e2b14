"""The public surface: what `import selftaught` offers, and no more."""

import subprocess
import sys

import selftaught

PUBLIC = [
    "Budget", "LanguageModel", "Run", "RunConfig", "RunLimits", "SelftaughtError", "Solution",
    "Task", "__version__", "extract_code", "resume", "run", "start",
]  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert selftaught.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(selftaught, name) is not None


def test_run_is_the_function_whatever_was_imported_before() -> None:
    code = (
        "import selftaught.cli, selftaught.runs.launch, selftaught as st\n"
        "from selftaught import resume, start\n"
        "assert callable(st.run) and callable(st.start) and callable(st.resume)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_loads_neither_the_openai_sdk_nor_the_command_line() -> None:
    code = (
        "import sys, selftaught\n"
        "heavy = {'openai', 'typer', 'rich', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
