"""The file of a run: one run with all its events and texts, to be kept or taken elsewhere.

JSON lines, compressed by gzip: a `Head`, then texts and events, each text before the first event
that names it, then a `Tail`. docs/reference/run-file.md describes it. A file may come from anybody:
the reader holds one line at a time, bounds what it unpacks, and believes nothing.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from selftaught.errors import StoreError
from selftaught.events import AnyEvent
from selftaught.store.event_store import text_hash
from selftaught.store.names import Names
from selftaught.store.record import is_time, referenced_texts

FORMAT = "selftaught-run"
VERSION = 1
RUN_NAME = re.compile(r"r-[0-9]{8}-[0-9]{3,9}", re.ASCII)
# The longest answers are some megabytes, and a text is bounded by the memory of who made it.
MAX_LINE_BYTES = 64 * 2**20
# Texts of programs shrink to a fifth, a run of scores to a thirtieth; a bomb to a thousandth.
MAX_RATIO = 200
FREE_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**16


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="run", forbid_unknown_fields=True):
    """The first line: the run as its store lists it.

    Attributes:
        format, version: FORMAT and VERSION.
        selftaught: the version that wrote the file.
        run, created_at, command, config: as in the table `runs`.
    """

    format: str
    version: int
    selftaught: str
    run: str
    created_at: float
    command: str
    config: dict[str, Any]


class TextLine(msgspec.Struct, frozen=True, kw_only=True, tag="text", forbid_unknown_fields=True):
    """A text under its hash; one with lone surrogates is in `content`, as base64."""

    hash: str
    text: str | None = None
    content: bytes | None = None

    @property
    def value(self) -> str:
        """The text itself."""
        if self.text is not None:
            return self.text
        return (self.content or b"").decode("utf-8", "surrogatepass")


class EventLine(msgspec.Struct, frozen=True, kw_only=True, tag="event", forbid_unknown_fields=True):
    """An event with its number and its time."""

    seq: int
    at: float
    event: AnyEvent


class Tail(msgspec.Struct, frozen=True, kw_only=True, tag="end", forbid_unknown_fields=True):
    """The last line: what stood before it; `sha256` is over the bytes of those lines."""

    events: int
    texts: int
    sha256: str


Line = Head | TextLine | EventLine | Tail
_decoder = msgspec.json.Decoder(Line)


def read_lines(file: IO[bytes], name: str) -> Iterator[Line]:
    """Yield the lines of a file of a run, each looked over; the last is its `Tail`.

    Args:
        file: at its beginning.
        name: the file's, for messages.

    Raises:
        StoreError: it is no such file, or was cut off or changed, with the line.
    """
    digest = hashlib.sha256()
    events = texts = 0
    has_ended = False
    with Names() as seen:
        for number, raw in enumerate(_unpacked(file, name), start=1):
            line = _decoded(raw, name, number)
            if has_ended or isinstance(line, Head) != (number == 1):
                raise _damaged(name, number, "is not the line that belongs there")
            match line:
                case Head():
                    _check_head(line, name)
                case TextLine():
                    texts += 1
                    _check_text(line, seen, name, number)
                case EventLine():
                    events += 1
                    _check_event(line, events, seen, name, number)
                case Tail():
                    if (line.events, line.texts) != (events, texts):
                        raise _damaged(name, number, "counts other lines than those before it")
                    if line.sha256 != digest.hexdigest():
                        raise _damaged(name, number, "is the checksum of other lines")
            digest.update(raw + b"\n")
            yield line
            has_ended = isinstance(line, Tail)
    if not has_ended:
        raise _cut_off(name)


def _unpacked(file: IO[bytes], name: str) -> Iterator[bytes]:
    """The lines of a gzip file, without their ends, of which one at a time is in memory."""
    gzip = zlib.decompressobj(wbits=31)
    packed = unpacked = 0
    parts: list[bytes] = []
    waiting_bytes = 0
    while not gzip.eof:
        chunk = gzip.unconsumed_tail or file.read(_CHUNK_BYTES)
        if not chunk:
            raise _cut_off(name)
        packed += 0 if gzip.unconsumed_tail else len(chunk)
        try:
            piece = gzip.decompress(chunk, _CHUNK_BYTES * 4)
        except zlib.error as error:
            raise StoreError(
                f"The file {name!r} is no file of a run, or is damaged: it cannot be unpacked "
                f"({error}). `selftaught store export RUN FILE` writes one."
            ) from error
        unpacked += len(piece)
        if unpacked > FREE_BYTES + MAX_RATIO * packed:
            raise StoreError(
                f"The file {name!r} is refused: it unpacks to more than {MAX_RATIO} times its "
                "size, which no recorded run does."
            )
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield b"".join((*parts, line))
            parts, waiting_bytes = [], 0
        parts.append(rest)
        waiting_bytes += len(rest)
        if waiting_bytes > MAX_LINE_BYTES:
            raise StoreError(
                f"The file {name!r} is refused: it holds a line of more than {MAX_LINE_BYTES:,} "
                "bytes."
            )
    if b"".join(parts) or gzip.unused_data or file.read(1):
        raise StoreError(
            f"The file {name!r} is damaged: something stands behind its end. Copy it again, or "
            "export the run anew."
        )


def _decoded(raw: bytes, name: str, number: int) -> Line:
    try:
        line: Line = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _damaged(name, number, f"is no line of a run ({error})") from error
    return line


def _check_head(head: Head, name: str) -> None:
    if head.format != FORMAT:
        raise _damaged(name, 1, f"names the format {head.format!r:.60}, not {FORMAT!r}")
    if head.version > VERSION:
        raise StoreError(
            f"The file {name!r} has version {head.version}, and this version of selftaught reads "
            f"{VERSION}: update selftaught."
        )
    if not RUN_NAME.fullmatch(head.run):
        raise _damaged(name, 1, f"names a run {head.run!r:.60}, and runs are named r-DATE-NUMBER")
    if not is_time(head.created_at):
        raise _damaged(name, 1, "holds a time that is none")


def _check_text(line: TextLine, seen: Names, name: str, number: int) -> None:
    if (line.text is None) == (line.content is None):
        raise _damaged(name, number, "holds no text, or two")
    try:
        is_itself = text_hash(line.value) == line.hash
    except UnicodeDecodeError:
        is_itself = False
    if not is_itself:
        raise _damaged(name, number, "was changed: its text is not that of its hash")
    if not seen.add(line.hash):
        raise _damaged(name, number, "holds a text that an earlier line holds too")


def _check_event(line: EventLine, expected: int, seen: Names, name: str, number: int) -> None:
    if line.seq != expected:
        raise _damaged(name, number, f"holds event {line.seq}, and {expected} comes next")
    if not is_time(line.at):
        raise _damaged(name, number, "holds a time that is none")
    for text in referenced_texts(line.event):
        if text not in seen:
            raise _damaged(name, number, f"refers to text {text!r:.40}, which no line before holds")


def _cut_off(name: str) -> StoreError:
    return StoreError(
        f"The file {name!r} is cut off: its end is missing. Copy it again, or export the run anew; "
        "nothing was written."
    )


def _damaged(name: str, number: int, what: str) -> StoreError:
    return StoreError(
        f"Line {number} of the file {name!r} {what}. Export the run anew, or go back to a whole "
        "copy; nothing was written."
    )
