"""Frames and values on the pipe between host and guest. Data only: never pickle.

A frame is `>II` (length of the JSON part, length of the raw part), the JSON part in UTF-8, and
the raw part, which holds the bytes of arrays one after another. JSON that stands for itself
stays as it is; everything else is an object with the single key "!":

    {"!": ["tuple", [...]]}             {"!": ["set", [...]]}
    {"!": ["dict", [[key, value]...]]}  {"!": ["float", "nan" | "inf" | "-inf"]}
    {"!": ["bytes", offset, length]}    {"!": ["array", dtype, shape, offset]}

The decoder is part of the boundary: lengths are capped before anything is read, the number of
values before anything is parsed, nesting is capped, dtypes are on a list, every raw byte belongs
to exactly one value, the time that keys take to hash and compare is capped, and what is wrong is a
WireError.
"""

import json
import math
import os
import re
import select
import struct
import sys
import time
import typing
from typing import Any, NoReturn

HEADER = struct.Struct(">II")
MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_RAW_BYTES = 64 * 1024 * 1024
# Of JSON. Two bytes of text make a list of 56; an array is one value however long it is.
MAX_VALUES = 1 << 20
MAX_DEPTH = 60
MAX_DIMENSIONS = 8
# Keys that collide cost the square of their number. Honest ones take under a microsecond each.
MAX_HASHING_S = 0.5
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


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"the constant {name}")


# What is encoded was made anew by _lower, which ends at a depth: it holds no circle.
_ENCODER = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False, ensure_ascii=False
)
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
# What `_ENCODER` makes anew for every value, made once.
_make_encoder = getattr(json.encoder, "c_make_encoder", None)
_encode_in_c = _make_encoder and _make_encoder(
    None, _ENCODER.default, json.encoder.encode_basestring, None, ":", ",", False, False, False
)
# The closing mark is optional: a text without one would be searched again from each of its bytes.
_TEXTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
Wait = typing.Callable[[], None]
_LEAVES = frozenset([type(None), bool, int, str])
_RAISED = frozenset([*_LEAVES, float])
_TEXT = frozenset([str])


class _Raw:
    """The raw part of a frame that is being made."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> int:
        """Append bytes and return where they begin."""
        offset = self.size
        self.parts.append(data)
        self.size += len(data)
        return offset


class _Frame:
    """What the values of one received frame share: its raw part, and the time it may take."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.used = 0
        self.hashing_s = 0.0

    def take(self, offset: Any, length: int) -> None:
        """Claim the next raw bytes. Each belongs to one value: none is copied a million times."""
        if type(offset) is not int or offset != self.used:
            raise WireError("A frame holds bytes at a bad place.")
        if offset + length > len(self.blob):
            raise WireError("A frame holds bytes beyond its end.")
        self.used += length

    def keys(self, items: list[Any]) -> typing.Iterator[Any]:
        """Yield what is put into a set or dict, and give up when that takes too long.

        The clock is looked at once in 16; it is the thread's own, so a busy machine is none.
        """
        started = time.thread_time()
        for count, item in enumerate(items):
            yield item
            if count & 15 == 0 and self.hashing_s + time.thread_time() - started > MAX_HASHING_S:
                raise WireError("A frame holds keys that collide.")
        self.hashing_s += time.thread_time() - started


def encode(message: dict[str, Any]) -> bytes:
    """Return the bytes of a frame for a message (a dict of values)."""
    body = _encode_plain(message)
    blob = b""
    if body is None:
        raw = _Raw()
        try:
            body = _ENCODER.encode(_lower(message, raw, 0)).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError) as error:
            raise WireError(f"A value cannot be sent: {error}.") from None
        blob = b"".join(raw.parts)
    if len(body) > MAX_JSON_BYTES or len(blob) > MAX_RAW_BYTES:
        raise WireError(f"A value of {len(body) + len(blob):,} bytes is too large to send.")
    if len(body) > MAX_VALUES:
        _count_values(body.decode("utf-8", "surrogatepass"))
    return HEADER.pack(len(body), len(blob)) + body + blob


def _encode_plain(message: dict[str, Any]) -> bytes | None:
    """The JSON part of a message that stands for itself, nothing nested; None for any other."""
    if _encode_in_c is None:
        return None
    for value in message.values():
        kind = type(value)
        if kind not in _RAISED and (kind is not list or not _RAISED.issuperset(map(type, value))):
            return None
    try:
        return "".join(_encode_in_c(message, 0)).encode()
    except ValueError:
        # A NaN, half a character, an integer without end: looked at more closely.
        return None


def decode(body: bytes, blob: bytes) -> dict[str, Any]:
    """Return the message of a frame's two parts."""
    try:
        text = body.decode("utf-8", "surrogatepass")
        if len(text) > MAX_VALUES:
            _count_values(text)
        message, end = _DECODER.raw_decode(text)
        if not isinstance(message, dict) or "!" in message or end != len(text):
            raise WireError("A frame must hold a message.")
        if (
            not (blob or '"!"' in text or "\\" in text)
            and text.count("[") + text.count("{") <= MAX_DEPTH
        ):
            # Surely no tag, not even in escapes, and not nested too deep.
            return message
        frame = _Frame(blob)
        for key, value in message.items():
            if type(value) not in _RAISED:
                message[key] = _raise(value, frame, 0)
    except (ValueError, RecursionError, MemoryError) as error:
        raise WireError(f"A frame is not valid: {type(error).__name__}.") from None
    if frame.used != len(blob):
        raise WireError("A frame holds bytes that belong to no value.")
    return message


def _count_values(text: str) -> None:
    """Refuse JSON of more than MAX_VALUES values: each costs far more memory than text."""
    if _values(text) > MAX_VALUES and _values(_TEXTS.sub("", text)) > MAX_VALUES:
        raise WireError(f"A frame holds more than {MAX_VALUES:,} values; send an array instead.")


def _values(text: str) -> int:
    return sum(map(text.count, ",:[{"))


def _lower(value: Any, raw: _Raw, depth: int) -> Any:
    """Return JSON-able data for a value, appending the bytes of arrays to `raw`."""
    if depth > MAX_DEPTH:
        raise WireError(f"A value is nested more than {MAX_DEPTH} deep.")
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"!": ["float", repr(value)]}
    if kind is list or kind is tuple:
        # The test for a leaf is repeated here: it saves a call for each of a million numbers.
        items = [v if type(v) in _LEAVES else _lower(v, raw, depth + 1) for v in value]
        return items if kind is list else {"!": ["tuple", items]}
    if kind is dict:
        if _TEXT.issuperset(map(type, value)) and "!" not in value:
            return {
                key: item if type(item) in _LEAVES else _lower(item, raw, depth + 1)
                for key, item in value.items()
            }
        pairs = [[_lower(k, raw, depth + 1), _lower(v, raw, depth + 1)] for k, v in value.items()]
        return {"!": ["dict", pairs]}
    if kind is set or kind is frozenset:
        return {"!": ["set", [_lower(item, raw, depth + 1) for item in value]]}
    if kind is bytes:
        return {"!": ["bytes", raw.add(value), len(value)]}
    if numpy := sys.modules.get("numpy"):
        if isinstance(value, numpy.ndarray):
            return _lower_array(value, raw, numpy)
        if isinstance(value, numpy.generic):
            return _lower(value.item(), raw, depth + 1)
    # Subclasses of plain types (a named tuple, an IntEnum) cross as the plain type.
    plain: type[Any]
    for plain in (bool, int, float, str, list, tuple, dict):
        if isinstance(value, plain):
            return _lower(plain(value), raw, depth + 1)
    if kind is range and len(value) <= MAX_VALUES:
        return [*value]
    raise WireError(f"A value of type {kind.__name__} cannot be sent: only data can.")


def _lower_array(array: Any, raw: _Raw, numpy: Any) -> dict[str, Any]:
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype.str not in DTYPES:
        raise WireError(f"An array of dtype {array.dtype} cannot be sent.")
    offset = raw.add(numpy.ascontiguousarray(array).tobytes())
    return {"!": ["array", array.dtype.str, list(array.shape), offset]}


def _raise(value: Any, frame: _Frame, depth: int) -> Any:
    """Return the value that JSON-able data stands for; lists and dicts are changed in place."""
    if depth > MAX_DEPTH * 2:
        raise WireError("A frame is nested too deep.")
    if type(value) is list:
        return _raise_list(value, frame, depth)
    if type(value) is not dict:
        return value
    if "!" not in value:
        for key, item in value.items():
            if type(item) not in _RAISED:
                value[key] = _raise(item, frame, depth + 1)
        return value
    try:
        (tagged,) = value.values()
        return _TAGS[tagged[0]](tagged, frame, depth)
    except WireError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError):
        raise WireError("A frame holds a value that no sender makes.") from None


def _raise_list(items: Any, frame: _Frame, depth: int) -> list[Any]:
    if type(items) is not list:
        raise WireError("A frame holds a value that no sender makes.")
    if not _RAISED.issuperset(map(type, items)):
        for at, item in enumerate(items):
            if type(item) not in _RAISED:
                items[at] = _raise(item, frame, depth + 1)
    return items


def _raise_tuple(tagged: list[Any], frame: _Frame, depth: int) -> tuple[Any, ...]:
    return tuple(_raise_list(tagged[1], frame, depth))


def _raise_set(tagged: list[Any], frame: _Frame, depth: int) -> set[Any]:
    return set(frame.keys(_raise_list(tagged[1], frame, depth)))


def _raise_dict(tagged: list[Any], frame: _Frame, depth: int) -> dict[Any, Any]:
    pairs = [(_raise(k, frame, depth + 1), _raise(v, frame, depth + 1)) for k, v in tagged[1]]
    return dict(frame.keys(pairs))


def _raise_float(tagged: list[Any], frame: _Frame, depth: int) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[tagged[1]]


def _raise_bytes(tagged: list[Any], frame: _Frame, depth: int) -> bytes:
    _, offset, length = tagged
    if type(length) is not int or length < 0:
        raise WireError("A frame holds bytes of a bad length.")
    frame.take(offset, length)
    return frame.blob[offset : offset + length]


def _raise_array(tagged: list[Any], frame: _Frame, depth: int) -> Any:
    import numpy

    _, dtype, shape, offset = tagged
    if dtype not in DTYPES or type(shape) is not list or len(shape) > MAX_DIMENSIONS:
        raise WireError("A frame holds an array of a dtype or shape that is not allowed.")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise WireError("A frame holds an array of a shape that is not allowed.")
    count = math.prod(shape)
    frame.take(offset, count * numpy.dtype(dtype).itemsize)
    flat = numpy.frombuffer(frame.blob, dtype=dtype, count=count, offset=offset)
    return flat.reshape(shape).copy()


_TAGS: dict[str, typing.Callable[[list[Any], _Frame, int], Any]] = {
    "tuple": _raise_tuple,
    "set": _raise_set,
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
        self.send_frames(encode(message))

    def send_frames(self, frames: bytes, deadline: float | None = None) -> None:
        """Send encoded frames.

        Args:
            frames: of `encode`, one after another.
            deadline: on `time.monotonic`, for a descriptor that does not block; None waits for
                ever. Without one, a peer that never reads stops the sender.

        Raises:
            Overdue: the other side did not take them.
        """
        rest: bytes | memoryview = frames
        while rest:
            try:
                written = os.write(self.write_fd, rest)
                rest = memoryview(rest)[written:] if written < len(rest) else b""
            except BlockingIOError:
                left = None if deadline is None else deadline - time.monotonic()
                if not _ready(self.write_fd, select.POLLOUT, left):
                    raise Overdue from None

    def receive(self, deadline: float | None = None, wait: Wait | None = None) -> dict[str, Any]:
        """Return the next message.

        Args:
            deadline: on `time.monotonic`; None waits for ever.
            wait: called instead of sleeping, before every read that may block. It returns when the
                descriptor may be readable and may raise to give up (a CPU limit, say).

        Raises:
            WireError, EndOfFrames, Overdue.
        """
        pending = self._pending
        if not pending:
            # Nearly always a whole frame, and nothing else, comes with one read.
            chunk = self._read(1 << 13, deadline, wait)
            if len(chunk) >= HEADER.size:
                json_length, raw_length = HEADER.unpack_from(chunk)
                raw_at = HEADER.size + json_length
                if raw_at + raw_length == len(chunk):
                    return decode(chunk[HEADER.size : raw_at], chunk[raw_at:])
            elif not chunk:
                raise EndOfFrames
            pending += chunk
        self._fill(HEADER.size, deadline, wait)
        json_length, raw_length = HEADER.unpack_from(pending)
        if json_length > MAX_JSON_BYTES or raw_length > MAX_RAW_BYTES:
            raise WireError(f"A frame of {json_length + raw_length:,} bytes is over the limit.")
        raw_at = HEADER.size + json_length
        end = raw_at + raw_length
        self._fill(end, deadline, wait)
        body, blob = bytes(pending[HEADER.size : raw_at]), bytes(pending[raw_at:end])
        del pending[:end]
        return decode(body, blob)

    def _fill(self, length: int, deadline: float | None, wait: Wait | None) -> None:
        while len(self._pending) < length:
            # No larger a buffer than is needed: a large one costs a mapping of its own.
            wanted = max(length - len(self._pending), 1 << 13)
            chunk = self._read(min(wanted, 1 << 20), deadline, wait)
            if not chunk:
                raise WireError("The other side ended in the middle of a frame.")
            self._pending += chunk

    def _read(self, length: int, deadline: float | None, wait: Wait | None) -> bytes:
        """Read what there is; empty where the other side ended."""
        while True:
            if wait is not None:
                wait()
            elif deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not _ready(self.read_fd, select.POLLIN, left):
                    raise Overdue
            try:
                return os.read(self.read_fd, length)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return b""


def _ready(descriptor: int, event: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(None if seconds is None else max(0, math.ceil(seconds * 1000))))
