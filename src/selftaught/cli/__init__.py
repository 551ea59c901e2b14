"""The command line: words on a screen, no logic of its own.

Exit codes: 0 done, 1 failed with a sentence that says what to do, 2 usage, 3 a budget was spent
before the first result.
"""

import gc
import os
import sys
from typing import Annotated, TextIO, cast

import typer

from selftaught.cli.commands import Group
from selftaught.errors import Interrupted, SelftaughtError, UsageError
from selftaught.redaction import Clean, remember_environment
from selftaught.version import __version__

app = typer.Typer(
    name="selftaught",
    cls=Group,
    help="The Self-Taught Optimizer: improve programs, and the improver that improves them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


# What Typer makes of a KeyboardInterrupt.
_INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        from selftaught.cli import screen

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
    sys.stdout = cast("TextIO", Clean(sys.stdout))
    sys.stderr = cast("TextIO", Clean(sys.stderr))
    try:
        app()
    except UsageError as error:
        _fail(error, 2)
    except Interrupted as error:
        _fail(error, 1, "")
    except SelftaughtError as error:
        _fail(error, 1)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != _INTERRUPTED:
            raise
        said = "Stopped at once. What a run recorded is kept: `selftaught resume latest` goes on."
        _fail(said, 1, "")
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
    finally:
        # The end of the process frees everything; a last search for garbage would only delay it.
        gc.freeze()


def _fail(what: object, code: int, prefix: str = "Error: ") -> None:
    from selftaught.cli import screen

    screen.err.print(f"{prefix}{what}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)
