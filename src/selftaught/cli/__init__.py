"""The command line: words on a screen, no logic of its own.

Exit codes: 0 done, 1 failed with a sentence that says what to do, 2 usage, 3 a budget was spent
before the first result.
"""

import os
import sys
from typing import Annotated, TextIO, cast

import typer

from selftaught.cli import (
    auditing,
    comparing,
    estimating,
    listing,
    options,
    reading,
    reporting,
    reproducing,
    running,
    screen,
    storing,
    task_folders,
)
from selftaught.errors import Interrupted, SelftaughtError, UsageError
from selftaught.redaction import remember_environment
from selftaught.version import __version__

app = typer.Typer(
    name="selftaught",
    help="The Self-Taught Optimizer: improve programs, and the improver that improves them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, _command in (
    ("run", running.run_command),
    ("improve", running.improve_command),
    ("transfer", running.transfer_command),
    ("compare", comparing.compare_command),
    ("audit", auditing.audit_command),
    ("reproduce", reproducing.reproduce_command),
    ("resume", running.resume_command),
    ("show", reading.show_command),
    ("export", reading.export_command),
    ("record", reading.record_command),
    ("report", reporting.report_command),
    ("track", reporting.track_command),
    ("tasks", listing.tasks_command),
    ("improvers", listing.improvers_command),
    ("models", listing.models_command),
    ("new-task", task_folders.new_task_command),
    ("check-task", task_folders.check_task_command),
    ("doctor", listing.doctor_command),
):
    app.command(_name)(options.spread(_command))
app.add_typer(estimating.commands(), name="estimate")
app.add_typer(storing.commands(), name="store")


def _version(wanted: bool) -> None:
    if wanted:
        screen.out.print(f"selftaught {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit."""
    remember_environment(os.environ)
    sys.stdout = cast("TextIO", screen.Clean(sys.stdout))
    sys.stderr = cast("TextIO", screen.Clean(sys.stderr))
    try:
        app()
    except UsageError as error:
        _fail(error, 2)
    except Interrupted as error:
        _fail(error, 1, "")
    except SelftaughtError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("Stopped at once. What was recorded is kept: `selftaught resume latest` goes on.", 1)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the last line: no traceback for a user, but everything said
        if os.environ.get("SELFTAUGHT_TRACEBACK"):
            raise
        _fail(
            f"selftaught itself failed: {type(error).__name__}: {error}. This is a defect; "
            "SELFTAUGHT_TRACEBACK=1 shows where.",
            1,
        )


def _fail(what: object, code: int, prefix: str = "Error: ") -> None:
    screen.err.print(f"{prefix}{what}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)
