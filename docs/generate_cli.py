"""Writes docs/reference/cli.md from the command line's own help texts.

`make docs` runs this; `tests/test_docs.py` fails while the page and the help texts differ.
"""

from pathlib import Path
from typing import Any

import typer

from selftaught.cli import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
WIDTH = 100

HEAD = """\
# Commands

This page is written by `docs/generate_cli.py` from the help texts; `make docs` writes it anew.

Exit codes: 0 done, 1 failed with a sentence that says what to do, 2 usage, 3 a limit of the run was
reached before the first result. `doctor`, `check-task` and `store check` exit with 1 where
something does not hold.

With `--json` one JSON document goes to standard output. Progress and errors go to standard error.
"""


def page() -> str:
    """The whole page as it should be."""
    root: Any = typer.main.get_command(app)
    named = {"selftaught": root}
    named |= {f"selftaught {name}": command for name, command in root.commands.items()}
    # Those of `estimate` take what the commands do that they estimate.
    for name, command in root.commands["store"].commands.items():
        named[f"selftaught store {name}"] = command
    return "\n".join([HEAD, *(_section(name, command) for name, command in named.items())])


def _section(name: str, command: Any) -> str:
    context = command.context_class(
        command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH
    )
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    return "\n".join([f"## {name}", "", "```text", *lines, "```", ""])


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
