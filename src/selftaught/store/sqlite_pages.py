"""The rows of a SQLite file read from its pages, whatever became of the rest of it.

SQLite reads a table from its root down, so that one damaged page hides all that lies below it, and
a damaged first page hides everything. Here every page is looked at for itself: those that hold rows
say so and carry them whole. Pages of the write-ahead log are read too, committed or not.

A store makes that safe: its rows are never changed or removed, so an older version of a page holds
fewer rows and no other ones. What is found is not yet believed; `selftaught.store.salvage` does
that, by the hash of a text and by the form of an event.

The format is described at https://sqlite.org/fileformat2.html.
"""

import os
import struct
from collections.abc import Iterator
from types import TracebackType

import msgspec

Value = int | float | str | bytes | None
_MAGIC = b"SQLite format 3\0"
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_LOG_HEADER, _FRAME_HEADER = 32, 24
_PAGE_SIZES = (4096, 512, 1024, 2048, 8192, 16384, 32768, 65536)
_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR = 13, 5, 10, 2
_HEADER_BYTES = {_TABLE_LEAF: 8, _INDEX_LEAF: 8, _INDEX_INTERIOR: 12}
_SAMPLE_BYTES = 2**21
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


class Row(msgspec.Struct, frozen=True):
    """What a cell holds: a row of a table, or of an index where `rowid` is None."""

    rowid: int | None
    values: tuple[Value, ...]


class _Cell(msgspec.Struct, frozen=True):
    """Where the payload of a cell lies: `local` bytes of `size` on its own page."""

    rowid: int | None
    size: int
    start: int
    local: int
    end: int


class Pages:
    """A SQLite file and its log, opened for reading; a context manager.

    Attributes:
        page_bytes: the size of a page; 0 where there is none.
        log_pages: how many the log holds.
    """

    def __init__(self, path: str) -> None:
        """Open a file, and its log where there is one.

        Raises:
            OSError: it cannot be read.
        """
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._log: int | None = None
        self.page_bytes = 0
        self.log_pages = 0
        # Where each page stands in the log, the newest first.
        self._frames: dict[int, list[int]] = {}
        try:
            self._file_bytes = os.fstat(self._file).st_size
            self._log_bytes = 0
            if os.path.exists(path + "-wal"):
                self._log = os.open(path + "-wal", os.O_RDONLY | os.O_CLOEXEC)
                self._log_bytes = os.fstat(self._log).st_size
            self.page_bytes = self._find_page_size()
            self._read_log()
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all pages, those of the newest first; one may come several times."""
        if not self.page_bytes:
            return
        for number, places in self._frames.items():
            for place in places:
                assert self._log is not None
                yield from self._rows_of(_read(self._log, self.page_bytes, place), number)
        for index in range(-(-self._file_bytes // self.page_bytes)):
            page = _read(self._file, self.page_bytes, index * self.page_bytes)
            yield from self._rows_of(page, index + 1)

    def close(self) -> None:
        """Let go of the files."""
        for fd in (self._file, self._log):
            if fd is not None:
                os.close(fd)

    def __enter__(self) -> "Pages":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _find_page_size(self) -> int:
        """What the headers say, or the size at which the most pages are pages with rows."""
        head = _read(self._file, 100, 0)
        said = []
        if head.startswith(_MAGIC):
            (size,) = struct.unpack_from(">H", head, 16)
            said.append(65536 if size == 1 else size)
        if self._log is not None:
            log_head = _read(self._log, _LOG_HEADER, 0)
            if len(log_head) == _LOG_HEADER:
                magic, _, size = struct.unpack_from(">III", log_head)
                said += [size] if magic in _LOG_MAGIC else []
        candidates = dict.fromkeys([*(size for size in said if size in _PAGE_SIZES), *_PAGE_SIZES])
        # Of equals the first: what a header says.
        return max(candidates, key=self._plausible_pages)

    def _plausible_pages(self, size: int) -> int:
        """How many pages in the beginning of both files could hold rows."""
        places = [(self._file, at) for at in range(0, min(_SAMPLE_BYTES, self._file_bytes), size)]
        if self._log is not None:
            end, step = min(_SAMPLE_BYTES, self._log_bytes), size + _FRAME_HEADER
            first = _LOG_HEADER + _FRAME_HEADER
            places += [(self._log, at) for at in range(first, end - size + 1, step)]
        found = 0
        for fd, at in places:
            page = _read(fd, size, at)
            start = 100 if (fd, at) == (self._file, 0) or page.startswith(_MAGIC) else 0
            if len(page) >= start + 8 and page[start] in (*_HEADER_BYTES, _TABLE_INTERIOR):
                kind, free, cells, content = struct.unpack_from(">BHHH", page, start)
                end = start + _HEADER_BYTES.get(kind, 12) + 2 * cells
                found += cells > 0 and free < size and end <= (content or 65536) <= size
        return found

    def _read_log(self) -> None:
        if self._log is None or not self.page_bytes:
            return
        step = _FRAME_HEADER + self.page_bytes
        for place in range(_LOG_HEADER, self._log_bytes - step + 1, step):
            head = _read(self._log, 4, place)
            number = int.from_bytes(head) if len(head) == 4 else 0
            self._frames.setdefault(number, []).insert(0, place + _FRAME_HEADER)
            self.log_pages += 1

    def _rows_of(self, page: bytes, number: int) -> Iterator[Row]:
        start = 100 if number == 1 else 0
        if len(page) < start + 8:
            return
        kind = page[start]
        if kind == _TABLE_INTERIOR:
            return
        # A page of another kind holds no rows, or is a page of rows whose kind was damaged.
        is_index = kind in (_INDEX_LEAF, _INDEX_INTERIOR)
        header = start + _HEADER_BYTES.get(kind, 8)
        (content,) = struct.unpack_from(">H", page, start + 5)
        (cells,) = struct.unpack_from(">H", page, start + 3)
        end = content if header <= content <= len(page) else header + 2 * cells
        count = max(0, min(end, len(page)) - header) // 2
        kind = kind if is_index else _TABLE_LEAF
        # Cells lie one behind the other: where a pointer is damaged, the cell before leads to it.
        places = [content, *struct.unpack_from(f">{count}H", page, header)]
        seen: set[int] = set()
        while places:
            place = places.pop()
            if place in seen or not header < place < len(page):
                continue
            seen.add(place)
            cell = self._cell(page, place, kind)
            if cell is not None:
                places.append(cell.end)
                yield from self._rows_in(page, cell)

    def _cell(self, page: bytes, place: int, kind: int) -> "_Cell | None":
        usable = self.page_bytes
        try:
            place += 4 if kind == _INDEX_INTERIOR else 0
            size, place = _varint(page, place)
            rowid: int | None = None
            if kind == _TABLE_LEAF:
                rowid, place = _varint(page, place)
        except IndexError:
            return None
        most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if not 1 < size <= self._file_bytes + self._log_bytes:
            return None
        if size <= most:
            return _Cell(rowid, size, place, size, place + size)
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
        return _Cell(rowid, size, place, local, place + local + 4)

    def _rows_in(self, page: bytes, cell: "_Cell") -> Iterator[Row]:
        """The row of a cell: one, or two where the log and the file know of two continuations."""
        start, end = cell.start, cell.start + cell.local
        continued = cell.size > cell.local
        tried = set()
        for prefers_log in (True, False) if continued else (True,):
            payload = page[start:end]
            if continued:
                following = int.from_bytes(page[end : end + 4])
                payload += self._overflow(following, cell.size - cell.local, prefers_log)
            if payload in tried or len(payload) < cell.size:
                continue
            tried.add(payload)
            try:
                yield Row(cell.rowid, _record(payload))
            except (IndexError, struct.error, ValueError):
                continue

    def _overflow(self, number: int, size: int, prefers_log: bool) -> bytes:
        parts = []
        while size > 0 and number:
            page = self._page(number, prefers_log)
            if len(page) < 4:
                break
            parts.append(page[4 : 4 + size])
            size -= len(parts[-1])
            (number,) = struct.unpack_from(">I", page)
        return b"".join(parts)

    def _page(self, number: int, prefers_log: bool) -> bytes:
        places = self._frames.get(number)
        if places and self._log is not None and (prefers_log or self._is_behind(number)):
            return _read(self._log, self.page_bytes, places[0])
        return _read(self._file, self.page_bytes, (number - 1) * self.page_bytes)

    def _is_behind(self, number: int) -> bool:
        return number * self.page_bytes > self._file_bytes


def _read(fd: int, size: int, place: int) -> bytes:
    """Bytes of a file, nothing where the disk does not give them."""
    try:
        return os.pread(fd, size, place)
    except OSError:
        return b""


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[place + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + index + 1
    value = value << 8 | data[place + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, place + 9


def _record(payload: bytes) -> tuple[Value, ...]:
    """The values of a record.

    Raises:
        IndexError, struct.error, ValueError: it is none.
    """
    end, place = _varint(payload, 0)
    if not 1 < end <= len(payload):
        raise ValueError
    types = []
    while place < end:
        one, place = _varint(payload, place)
        types.append(one)
    place = end
    values = []
    for one in types:
        value, place = _value(payload, one, place)
        values.append(value)
    if place != len(payload):
        raise ValueError
    return tuple(values)


def _value(payload: bytes, kind: int, place: int) -> tuple[Value, int]:
    if kind == 0:
        return None, place
    if 1 <= kind <= 6:
        end = place + _INTEGER_BYTES[kind]
        return int.from_bytes(payload[place:end], signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", payload, place)[0], place + 8
    if kind in (8, 9):
        return kind - 8, place
    if kind < 12:
        raise ValueError
    end = place + (kind - 12) // 2
    # Texts are bytes here as well: damage may have left something that is no UTF-8.
    return payload[place:end], end
