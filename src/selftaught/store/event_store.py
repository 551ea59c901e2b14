"""What a store is: a Protocol, a row of its list of runs, and the hash that names a text."""

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from selftaught.errors import StoreError, UsageError
from selftaught.events import AnyEvent
from selftaught.store.record import decode_config

LATEST = "latest"


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as a list of runs shows it.

    Attributes:
        id: its name in the store, such as `r-20261124-001` (UTC date and number of the day).
        created_at: seconds since the epoch.
        command: the command that started it.
        config: what it was started with.
        status: of its last `run_ended`; `unfinished` where none follows its last start, that is
            while it runs and after it was killed.
        reason: of the same event; empty where there is none.
        ended_at: when that event was recorded.
        events: how many events it holds; the last one's `seq`.
    """

    id: str
    created_at: float
    command: str
    config: dict[str, object]
    status: str
    reason: str
    ended_at: float | None
    events: int


class Adding(Protocol):
    """Enters runs that were recorded elsewhere, with their times and numbers; see `Store.adding`.

    Nothing is redacted here: whoever adds what this program did not record itself looks first.
    """

    def free_id(self, run: str) -> str:
        """Return an id, or the next free one of its day where a run has it or it is too high."""
        ...

    def add_run(self, run: str, created_at: float, command: str, config: str) -> None:
        """Enter a run; `config` is JSON."""
        ...

    def add_event(self, run: str, seq: int, at: float, event: AnyEvent) -> None:
        """Enter an event, whose number must be the next one of its run."""
        ...

    def add_text(self, text: str) -> None:
        """Enter a text, unless it is there."""
        ...


class Store(Protocol):
    """Keeps runs, events and texts, and never changes one. A context manager, which closes it.

    Durability: what a call has recorded before it returns survives the death of the process.
    Who may write a run: one process at a time; readers come and go beside it.
    Thread safety: every method may be called from any thread.
    Order: the events of a run are numbered 1, 2, 3, ... in the order of `append`.
    Errors: StoreError wherever a store cannot be read or written, on every method.
    """

    path: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def new_run(self, config: dict[str, object], command: str) -> str:
        """Enter a run in the list and return its id; records no event.

        Args:
            config: everything needed to repeat the run, as JSON-able data.
            command: the command that starts it.
        """
        ...

    def take(self, run: str) -> None:
        """Become the writer of a run; until then another process may add to it.

        Raises:
            StoreError: no such run, or another process is its writer.
        """
        ...

    def append(self, run: str, event: AnyEvent) -> int:
        """Record an event and return its number in the run, from 1."""
        ...

    def append_with_texts(self, run: str, event: AnyEvent, texts: Sequence[str]) -> int:
        """Record an event together with texts it refers to: all of them, or nothing."""
        ...

    def put_text(self, text: str) -> str:
        """Keep a text, once however often it is put, and return its hash."""
        ...

    def adding(self) -> AbstractContextManager[Adding]:
        """Take whole runs in from elsewhere: all that the block adds, or nothing."""
        ...

    def text(self, text_hash: str) -> str:
        """Return the text of a hash, exactly as it was put."""
        ...

    def texts(self, hashes: Sequence[str]) -> tuple[str, ...]:
        """Return the texts of some hashes, in their order."""
        ...

    def find(self, run: str, kind: str, key: str) -> AnyEvent | None:
        """Return the latest event of a kind under a key, or None."""
        ...

    def keyed(
        self, run: str, kind: str, prefix: str, limit: int | None = None
    ) -> list[tuple[int, AnyEvent]]:
        """Return the events of a kind whose keys begin so, in order, with their numbers.

        Args:
            run: its id.
            kind: such as `requested`.
            prefix: at least one character.
            limit: no more than so many, the first.
        """
        ...

    def events(
        self, run: str, kinds: Collection[str] | None = None, *, after: int = 0
    ) -> Iterator[tuple[int, float, AnyEvent]]:
        """Iterate over the events of a run, in order, with their numbers and times.

        Args:
            run: its id.
            kinds: only these kinds, such as `answered`; None for all.
            after: only events with a higher number, so that a reader can follow a run.
        """
        ...

    def select(
        self, query: str, parameters: Sequence[str | int | float | None] = ()
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT over tables, in SQL that every store understands.

        It takes no JSON apart; `selftaught.store.queries` has all of them. In a store of an older
        version that is open for reading, the first one counts all events.

        Args:
            query: with `?` for parameters.
            parameters: their values.
        """
        ...

    def runs(self) -> list[RunRow]:
        """Return all runs, the oldest first."""
        ...

    def run(self, run: str) -> RunRow:
        """Return one run by its full id.

        Raises:
            StoreError: there is none.
        """
        ...

    def resolve(self, run_prefix: str) -> str:
        """Return the id that a user means by an id, the beginning of one, or `latest`.

        Raises:
            UsageError: no run, or more than one, is meant.
        """
        ...

    def free_bytes(self) -> int | None:
        """By how much the store may grow; None where that is not known on this machine."""
        ...

    def check(self) -> list[str]:
        """Look the whole store over and return what is wrong with it, in sentences."""
        ...

    def close(self) -> None:
        """Let go of the store; a second call does nothing."""
        ...


def run_row(
    run: str,
    created_at: float,
    command: str,
    config: str,
    mark: str | None,
    marked_at: float | None,
    status: str | None,
    reason: str | None,
    events: int,
) -> RunRow:
    """A run as its row and its last `run_started`, `run_resumed` or `run_ended` tell of it."""
    ended = mark == "run_ended"
    return RunRow(
        id=run,
        created_at=created_at,
        command=command,
        config=decode_config(config, run),
        status=status or "" if ended else "unfinished",
        reason=reason or "" if ended else "",
        ended_at=marked_at if ended else None,
        events=events,
    )


def after_prefix(prefix: str) -> str:
    """The least text that comes after all texts that begin so."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def unknown_run(run: str, path: str) -> StoreError:
    """What a store says of a run that it does not hold."""
    return StoreError(
        f"There is no run {run!r} in {path!r}: new_run() makes one, and resolve() finds "
        "one by the beginning of its id."
    )


def unknown_text(text_hash: str, path: str) -> StoreError:
    """What a store says of a text that it does not hold."""
    return StoreError(
        f"The store {path!r} holds no text {text_hash!r}: the hash is mistyped, or "
        "of another store."
    )


def closed_store(path: str) -> StoreError:
    """What a store says after `close`."""
    return StoreError(f"The store {path!r} has been closed: open it again.")


def read_only_store(path: str) -> StoreError:
    """What a store that was opened for reading says to a writer."""
    return StoreError(f"The store {path!r} is open for reading only: open it with writable=True.")


def require_process(pid: int, path: str) -> None:
    """Raise StoreError in a process forked from the one that opened a store."""
    if os.getpid() != pid:
        raise StoreError(
            f"The store {path!r} was opened by process {pid} and cannot be used "
            "in a process forked from it: open it again there."
        )


def meant_run(run_prefix: str, ids: Sequence[str], path: str) -> str:
    """The run that a user means; see `Store.resolve`.

    Args:
        run_prefix: as typed.
        ids: of all runs, the newest first.
        path: the store's name, for messages.
    """
    if not ids:
        raise UsageError(f"The store {path!r} holds no run yet; `selftaught run TASK` starts one.")
    if run_prefix == LATEST:
        return ids[0]
    if run_prefix in ids:
        return run_prefix
    meant = [run for run in ids if run_prefix and run.startswith(run_prefix)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UsageError(f"{run_prefix!r} may mean {_some(meant)}; write more of it.")
    raise UsageError(
        f"There is no run {run_prefix!r} in {path!r}. It holds {_some(ids)}; "
        f"{LATEST!r} names the newest."
    )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + more


def text_hash(text: str) -> str:
    """The name of a text: the first 16 hex digits of SHA-256 over it in UTF-8.

    A lone surrogate counts as the three bytes that UTF-8 would give it.
    """
    return bytes_hash(text.encode("utf-8", "surrogatepass"))


def bytes_hash(content: bytes) -> str:
    """The name of a text whose bytes are already there."""
    return hashlib.sha256(content).hexdigest()[:16]
