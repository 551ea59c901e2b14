"""One run out of a store into a file, and out of a file into a store."""

import contextlib
import gzip
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import IO

import msgspec

from selftaught.errors import StoreError
from selftaught.events import (
    AnyEvent,
    Audited,
    CandidateTried,
    Evaluated,
    Improved,
    MetaEvaluated,
    Requested,
)
from selftaught.redaction import redacted
from selftaught.store.event_store import Adding, RunRow, Store, text_hash
from selftaught.store.imported import as_exported, marked_as_imported, reached_by
from selftaught.store.names import Names
from selftaught.store.opening import open_store
from selftaught.store.record import (
    encode_config,
    encode_event,
    printable,
    referenced_texts,
    without_nul,
)
from selftaught.store.run_file import (
    FORMAT,
    FREE_BYTES,
    MAX_LINE_BYTES,
    MAX_RATIO,
    VERSION,
    EventLine,
    Head,
    Line,
    Tail,
    TextLine,
    read_lines,
)
from selftaught.version import __version__

_LEVEL, _NOT_COMPRESSED = 6, 0


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote or an import took in.

    Attributes:
        store: which one, as messages name it.
        run: its id where it is now.
        was: its id where it came from.
        events, texts: how many.
        is_new: False where the store held the run already, and nothing was written.
        sha256: over the lines, as in the file's last one: the same run gives the same.
        reaches: of an import, what a resume would reach because the file says so, in sentences.
    """

    store: str
    run: str
    was: str
    events: int
    texts: int
    is_new: bool = True
    sha256: str
    reaches: tuple[str, ...] = ()


def export_run(store: Store, run: str, out: IO[bytes]) -> Moved:
    """Write a run as one file: what it holds now, were it to go on meanwhile.

    The same run gives the same bytes. Memory does not grow with the run.

    Args:
        store: where it is.
        run: its id, in full.
        out: where to write; a file, which is emptied first.

    Raises:
        StoreError: no such run, or it is damaged.
    """
    row = store.run(run)
    for level in (_LEVEL, _NOT_COMPRESSED):
        out.seek(0)
        out.truncate()
        with contextlib.suppress(_LooksLikeABomb):
            return _written(store, row, out, level)
    raise AssertionError("what is not compressed has no ratio")


class _LooksLikeABomb(Exception):
    """A reader would refuse the file: programs that only repeat themselves shrink too much."""


def _written(store: Store, row: RunRow, out: IO[bytes], level: int) -> Moved:
    run = row.id
    digest = hashlib.sha256()
    events = texts = unpacked = 0
    with gzip.GzipFile("", "wb", level, out, mtime=0) as packed, Names() as written:

        def write(line: bytes) -> None:
            nonlocal unpacked
            if len(line) > MAX_LINE_BYTES:
                raise StoreError(
                    f"Run {run} cannot be exported: a line of its file would have {len(line):,} "
                    f"bytes, and {MAX_LINE_BYTES:,} is the most that an import takes."
                )
            digest.update(line + b"\n")
            packed.write(line + b"\n")
            unpacked += len(line) + 1
            # With a margin for what waits to be compressed, and for a long line.
            if unpacked > FREE_BYTES // 2 + MAX_RATIO * out.tell():
                raise _LooksLikeABomb

        write(_head(row))
        for seq, at, event in store.events(run):
            if seq > row.events:
                break
            for name, is_needed in _named_texts(event):
                if name and name not in written:
                    content = _text(store, run, name, is_needed)
                    if content is not None:
                        written.add(name)
                        write(content)
                        texts += 1
            write(_event(seq, at, event))
            events += 1
        sha256 = digest.hexdigest()
        write(msgspec.json.encode(Tail(events=events, texts=texts, sha256=sha256)))
    return Moved(store=store.path, run=run, was=run, events=events, texts=texts, sha256=sha256)


def import_run(path: str, store: str) -> Moved:
    """Take the run of a file into a store: all of it in one transaction, or nothing.

    The file is read to its end and found good before anything is written. A run that the store
    holds already, as the file has it or with more events, is left as it is. Where its id is not
    free, it gets another one.

    Args:
        path: of the file.
        store: as after `--store`; made where there is none, once the file is found good.

    Raises:
        StoreError: the file cannot be read, is damaged, or holds what looks like a secret.
    """
    with _opened(path) as file:
        head, tail = _looked_over(file, path)
        with open_store(store, writable=True) as opened:
            held = _held(opened, head, file, path)
            if held is not None:
                return _moved(opened.path, held, head, tail, is_new=False)
            file.seek(0)
            with opened.adding() as adding:
                run = adding.free_id(head.run)
                for line in read_lines(file, path):
                    _take_in(line, adding, run)
                    if isinstance(line, Tail) and line != tail:
                        raise StoreError(f"The file {path!r} changed while it was read.")
            return _moved(opened.path, run, head, tail, is_new=True)


def _take_in(line: Line, adding: Adding, run: str) -> None:
    match line:
        case Head():
            config = encode_config(marked_as_imported(line.config))
            adding.add_run(run, line.created_at, printable(line.command), config)
        case TextLine():
            adding.add_text(line.value)
        case EventLine():
            adding.add_event(run, line.seq, line.at, line.event)
        case Tail():
            pass


def _head(row: RunRow) -> bytes:
    return msgspec.json.encode(
        Head(
            format=FORMAT,
            version=VERSION,
            selftaught=__version__,
            run=row.id,
            created_at=row.created_at,
            command=row.command,
            config=as_exported(row.config),
        )
    )


def _event(seq: int, at: float, event: AnyEvent) -> bytes:
    body, _ = encode_event(event)
    frame = msgspec.json.encode({"type": "event", "seq": seq, "at": at})
    return b'%s,"event":%s}' % (frame[:-1], body.encode())


def _text(store: Store, run: str, name: str, is_needed: bool) -> bytes | None:
    try:
        text = store.text(name)
    except StoreError as error:
        if not is_needed:
            # A hash of what was never kept, such as the program of an interrupted score.
            return None
        raise StoreError(
            f"Run {run} in {store.path!r} is damaged ({error}): `selftaught store check` says "
            "what is lost."
        ) from error
    if text_hash(text) != name:
        raise StoreError(
            f"Run {run} in {store.path!r} is damaged: text {name!r} was changed. `selftaught "
            "store check` says what is lost."
        )
    try:
        line = TextLine(hash=name, text=text)
        return msgspec.json.encode(line)
    except UnicodeEncodeError:
        return msgspec.json.encode(
            TextLine(hash=name, content=text.encode("utf-8", "surrogatepass"))
        )


def _named_texts(event: AnyEvent) -> Iterator[tuple[str, bool]]:
    """The hashes in an event, and whether it cannot be understood without the text."""
    for name in referenced_texts(event):
        yield name, True
    match event:
        case Evaluated() | Requested():
            yield event.solution, False
        case Improved():
            yield event.improver, False
            yield event.initial, False
        case MetaEvaluated():
            yield event.improver, False
        case CandidateTried():
            yield event.candidate, False
            yield event.improver, False
        case Audited():
            yield event.program, False
        case _:
            pass


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    try:
        # A pipe or a device is not opened for good before it is known to be a file.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(
            f"The file {path!r} cannot be read ({error.strerror}): `selftaught store export RUN "
            "FILE` writes one."
        ) from error
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StoreError(f"{path!r} is no file: name one that `selftaught store export` wrote.")
        try:
            yield file
        except OSError as error:
            raise StoreError(f"The file {path!r} cannot be read ({error.strerror}).") from error


def _looked_over(file: IO[bytes], path: str) -> tuple[Head, Tail]:
    head: Head | None = None
    tail: Tail | None = None
    for line in read_lines(file, path):
        match line:
            case Head():
                head = line
                _refuse_secret(line.command, path, "its command")
                _refuse_secret(encode_config(line.config), path, "its configuration")
            case TextLine():
                _refuse_secret(line.value, path, f"text {line.hash}")
            case EventLine():
                # Recorded anew, it would lose what looks like a secret, and with it its texts.
                encode_event(line.event)
            case Tail():
                tail = line
    assert head is not None
    assert tail is not None
    return head, tail


def _refuse_secret(text: str, path: str, what: str) -> None:
    if redacted(text) != text:
        raise StoreError(
            f"The file {path!r} holds what looks like a key or password in {what}, and a store "
            "holds none: export the run anew, or, where it is a secret of your own environment, "
            "import without it set."
        )


def _held(store: Store, head: Head, file: IO[bytes], path: str) -> str | None:
    """The run that the file holds, or the beginning of it, where the store has it already."""
    for row in store.runs():
        # Postgres writes a NUL out, SQLite does not.
        commands = {without_nul(row.command), without_nul(head.command)}
        is_like = row.created_at == head.created_at and len(commands) == 1
        if is_like and as_exported(row.config) == as_exported(head.config):
            file.seek(0)
            lines = (line for line in read_lines(file, path) if isinstance(line, EventLine))
            stored = store.events(row.id)
            if all(_is_next(line, stored) for line in lines):
                return row.id
    return None


def _is_next(line: EventLine, stored: Iterator[tuple[int, float, AnyEvent]]) -> bool:
    return next(stored, None) == (line.seq, line.at, line.event)


def _moved(store: str, run: str, head: Head, tail: Tail, *, is_new: bool) -> Moved:
    return Moved(
        store=store,
        run=run,
        was=head.run,
        events=tail.events,
        texts=tail.texts,
        is_new=is_new,
        sha256=tail.sha256,
        reaches=tuple(reached_by(head.config)),
    )
