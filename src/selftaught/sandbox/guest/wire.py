"""Frames and values on the pipe between host and guest. Data only: never pickle.

A frame is `>II` (length of the JSON part, length of the raw part), the JSON part in UTF-8, and
the raw part, which holds the bytes of arrays one after another. JSON that stands for itself
stays as it is; everything else is an object with the single key "!":

    {"!": ["tuple", [...]]}             {"!": ["set", [...]]}
    {"!": ["dict", [[key, value]...]]}  {"!": ["float", "nan" | "inf" | "-inf"]}
    {"!": ["bytes", offset, length]}    {"!": ["array", dtype, shape, offset]}

The decoder is part of the boundary: lengths are capped before anything is read, nesting is
capped, dtypes are on a list, offsets are checked, and what is wrong is a WireError.
"""

import json
import math
import os
import select
import struct
import sys
import time
import typing
from typing import Any, NoReturn

HEADER = struct.Struct(">II")
MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_RAW_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 60
MAX_DIMENSIONS = 8
DTYPES = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8",
     "<c16"]
)  # fmt: skip


class WireError(Exception):
    """A frame or a value that the wire does not carry. The message says what is wrong."""


class EndOfFrames(Exception):
    """The other side closed the pipe between two frames."""


class Overdue(Exception):
    """No whole frame arrived before the deadline."""


def encode(message: dict[str, Any]) -> bytes:
    """Return the bytes of a frame for a message (a dict of values)."""
    raw: list[bytes] = []
    prepared = _lower(message, raw, 0)
    try:
        text = json.dumps(prepared, separators=(",", ":"), allow_nan=False)
        body = text.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError) as error:
        raise WireError(f"A value cannot be sent: {error}.") from None
    blob = b"".join(raw)
    if len(body) > MAX_JSON_BYTES or len(blob) > MAX_RAW_BYTES:
        raise WireError(f"A value of {len(body) + len(blob):,} bytes is too large to send.")
    return HEADER.pack(len(body), len(blob)) + body + blob


def decode(body: bytes, blob: bytes) -> dict[str, Any]:
    """Return the message of a frame's two parts."""
    try:
        message = json.loads(body.decode("utf-8", "surrogatepass"), parse_constant=_no_constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise WireError(f"A frame is not valid: {type(error).__name__}.") from None
    if not isinstance(message, dict) or "!" in message:
        raise WireError("A frame must hold a message.")
    return {key: _raise(value, blob, 0) for key, value in message.items()}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"the constant {name}")


def _lower(value: Any, raw: list[bytes], depth: int) -> Any:
    """Return JSON-able data for a value, appending the bytes of arrays to `raw`."""
    if depth > MAX_DEPTH:
        raise WireError(f"A value is nested more than {MAX_DEPTH} deep.")
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is int:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"!": ["float", repr(value)]}
    if kind is list:
        return [_lower(item, raw, depth + 1) for item in value]
    if kind is tuple:
        return {"!": ["tuple", [_lower(item, raw, depth + 1) for item in value]]}
    if kind is dict:
        if all(type(key) is str for key in value) and "!" not in value:
            return {key: _lower(item, raw, depth + 1) for key, item in value.items()}
        pairs = [[_lower(k, raw, depth + 1), _lower(v, raw, depth + 1)] for k, v in value.items()]
        return {"!": ["dict", pairs]}
    if kind is set or kind is frozenset:
        return {"!": ["set", [_lower(item, raw, depth + 1) for item in value]]}
    if kind is bytes:
        offset = sum(map(len, raw))
        raw.append(value)
        return {"!": ["bytes", offset, len(value)]}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _lower_array(value, raw, numpy)
        if isinstance(value, numpy.generic):
            return _lower(value.item(), raw, depth + 1)
    # Subclasses of plain types (a named tuple, an IntEnum) cross as the plain type.
    plain: type[Any]
    for plain in (bool, int, float, str, list, tuple, dict):
        if isinstance(value, plain):
            return _lower(plain(value), raw, depth + 1)
    if kind is range:
        return [*value] if len(value) <= 1_000_000 else _refuse_kind(kind)
    return _refuse_kind(kind)


def _refuse_kind(kind: type[Any]) -> NoReturn:
    raise WireError(f"A value of type {kind.__name__} cannot be sent: only data can.")


def _lower_array(array: Any, raw: list[bytes], numpy: Any) -> dict[str, Any]:
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype.str not in DTYPES:
        raise WireError(f"An array of dtype {array.dtype} cannot be sent.")
    offset = sum(map(len, raw))
    raw.append(numpy.ascontiguousarray(array).tobytes())
    return {"!": ["array", array.dtype.str, list(array.shape), offset]}


def _raise(value: Any, blob: bytes, depth: int) -> Any:
    """Return the value that JSON-able data stands for."""
    if depth > MAX_DEPTH * 2:
        raise WireError("A frame is nested too deep.")
    kind = type(value)
    if kind is list:
        return [_raise(item, blob, depth + 1) for item in value]
    if kind is not dict:
        return value
    if "!" not in value:
        return {key: _raise(item, blob, depth + 1) for key, item in value.items()}
    try:
        (tagged,) = value.values()
        return _TAGS[tagged[0]](tagged, blob, depth)
    except WireError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError):
        raise WireError("A frame holds a value that no sender makes.") from None


def _raise_dict(tagged: list[Any], blob: bytes, depth: int) -> dict[Any, Any]:
    return {_raise(k, blob, depth + 1): _raise(v, blob, depth + 1) for k, v in tagged[1]}


def _raise_float(tagged: list[Any], blob: bytes, depth: int) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[tagged[1]]


def _raise_bytes(tagged: list[Any], blob: bytes, depth: int) -> bytes:
    _, offset, length = tagged
    if not (type(offset) is int and type(length) is int and 0 <= offset <= offset + length):
        raise WireError("A frame holds bytes at a bad place.")
    if offset + length > len(blob):
        raise WireError("A frame holds bytes beyond its end.")
    return bytes(blob[offset : offset + length])


def _raise_array(tagged: list[Any], blob: bytes, depth: int) -> Any:
    import numpy

    _, dtype, shape, offset = tagged
    if dtype not in DTYPES or type(shape) is not list or len(shape) > MAX_DIMENSIONS:
        raise WireError("A frame holds an array of a dtype or shape that is not allowed.")
    if not all(type(n) is int and n >= 0 for n in [*shape, offset]):
        raise WireError("A frame holds an array of a shape that is not allowed.")
    count = math.prod(shape)
    if offset + count * numpy.dtype(dtype).itemsize > len(blob):
        raise WireError("A frame holds an array beyond its end.")
    flat = numpy.frombuffer(blob, dtype=dtype, count=count, offset=offset)
    return flat.reshape(shape).copy()


_TAGS: dict[str, typing.Callable[[list[Any], bytes, int], Any]] = {
    "tuple": lambda tagged, blob, depth: tuple(_raise(v, blob, depth + 1) for v in tagged[1]),
    "set": lambda tagged, blob, depth: {_raise(v, blob, depth + 1) for v in tagged[1]},
    "dict": _raise_dict,
    "float": _raise_float,
    "bytes": _raise_bytes,
    "array": _raise_array,
}


class Pipe:
    """Frames over one descriptor that reads and writes (a socket), or over two.

    Not thread-safe: callers bring their own lock.
    """

    def __init__(self, read_fd: int, write_fd: int | None = None) -> None:
        self.read_fd = read_fd
        self.write_fd = read_fd if write_fd is None else write_fd
        self._pending = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; blocks until all of it is written."""
        view = memoryview(encode(message))
        while view:
            try:
                view = view[os.write(self.write_fd, view) :]
            except BlockingIOError:
                select.select([], [self.write_fd], [])

    def receive(
        self, deadline: float | None = None, wait: typing.Callable[[Any], None] | None = None
    ) -> dict[str, Any]:
        """Return the next message.

        Args:
            deadline: on `time.monotonic`; None waits for ever.
            wait: called instead of sleeping, as `wait(seconds_left)`; it returns when the
                descriptor may be readable and may raise to give up (a CPU limit, say).

        Raises:
            WireError, EndOfFrames, Overdue.
        """
        head = self._take(HEADER.size, deadline, wait, fresh=True)
        json_length, raw_length = HEADER.unpack(head)
        if json_length > MAX_JSON_BYTES or raw_length > MAX_RAW_BYTES:
            raise WireError(f"A frame of {json_length + raw_length:,} bytes is over the limit.")
        body = self._take(json_length, deadline, wait)
        return decode(body, self._take(raw_length, deadline, wait))

    def _take(
        self,
        length: int,
        deadline: float | None,
        wait: typing.Callable[[Any], None] | None,
        fresh: bool = False,
    ) -> bytes:
        while len(self._pending) < length:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise Overdue
            if wait is not None:
                wait(left)
            elif left is not None and not _readable(self.read_fd, left):
                raise Overdue
            try:
                chunk = os.read(self.read_fd, 1 << 18)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                if fresh and not self._pending:
                    raise EndOfFrames
                raise WireError("The other side ended in the middle of a frame.")
            self._pending += chunk
        taken = bytes(self._pending[:length])
        del self._pending[:length]
        return taken


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0, math.ceil(seconds * 1000))))
