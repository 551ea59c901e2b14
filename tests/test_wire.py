"""The wire carries data exactly, and nothing else whatever bytes arrive."""

import contextlib
import math
import os
import socket
import time

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.sandbox.guest import wire

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner, max_size=4)
    ),
    max_leaves=12,
)


def crossed(value: object) -> object:
    frame = wire.encode({"value": value})
    json_length, _ = wire.HEADER.unpack(frame[: wire.HEADER.size])
    body = frame[wire.HEADER.size :]
    return wire.decode(body[:json_length], body[json_length:])["value"]


def same(a: object, b: object) -> bool:
    return type(a) is type(b) and (repr(a) == repr(b))


@given(plain)
def test_plain_data_comes_out_as_it_went_in(value: object) -> None:
    assert same(crossed(value), value)


@given(st.text(alphabet=st.characters(categories=["Cs"]), max_size=1))
def test_a_lone_surrogate_crosses(text: str) -> None:
    assert crossed(text) == text


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex128"]
)
def test_arrays_cross_with_dtype_and_shape(dtype: str) -> None:
    array = numpy.arange(24).reshape(2, 3, 4).astype(dtype)
    for form in (array, array.T, array[:, ::2], array[:0]):
        back = crossed({"a": [form]})["a"][0]  # type: ignore[index]
        assert back.dtype == form.dtype
        assert back.shape == form.shape
        assert (back == form).all()


def test_numpy_scalars_cross_as_numbers() -> None:
    assert crossed([numpy.float64(1.5), numpy.int32(3), numpy.bool_(True)]) == [1.5, 3, True]


def test_big_endian_arrays_cross() -> None:
    assert (crossed(numpy.arange(3, dtype=">i4")) == numpy.arange(3)).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value",
    [object(), lambda: 0, numpy.array([object()]), numpy.array(["text"]), open, type],
)
def test_what_is_no_data_is_refused_at_the_sender(value: object) -> None:
    with pytest.raises(wire.WireError):
        wire.encode({"value": value})


def test_an_integer_of_thousands_of_digits_is_refused_at_the_sender() -> None:
    with pytest.raises(wire.WireError, match="digits"):
        wire.encode({"value": 10**6000})


def test_nesting_without_end_is_refused_at_the_sender() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(wire.WireError, match="nested"):
        wire.encode({"value": endless})


BAD = [
    b"", b"[]", b"null", b"{", b'{"a": NaN}', b'{"a": Infinity}', b'{"!": ["set", []]}',
    b'{"a": {"!": []}}', b'{"a": {"!": ["pickle", "x"]}}', b'{"a": {"!": ["array", "|O", [1], 0]}}',
    b'{"a": {"!": ["array", "<f8", [1000000000], 0]}}', b'{"a": {"!": ["array", "<f8", [-1], 0]}}',
    b'{"a": {"!": ["array", "<f8", [1], -8]}}', b'{"a": {"!": ["array", "<f8", "12", 0]}}',
    b'{"a": {"!": ["array", "<f8", [1, 1, 1, 1, 1, 1, 1, 1, 1], 0]}}',
    b'{"a": {"!": ["bytes", 0, 99]}}', b'{"a": {"!": ["bytes", 5, -3]}}',
    b'{"a": {"!": ["set", [[]]]}}', b'{"a": {"!": ["dict", [[{}, 1]]]}}', b'{"a": {"!": ["float"]}}',
    b'{"a": {"!": ["tuple", 5]}}', b'{"a": ' + b"[" * 100_000, b'{"a": ' + b"9" * 10_000 + b"}",
    b'{"a": "\xff"}', b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_a_bad_frame_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(body, b"12345678")


@given(st.binary(max_size=200), st.binary(max_size=64))
@settings(max_examples=500)
def test_any_bytes_decode_or_are_a_wire_error(body: bytes, blob: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        wire.decode(body, blob)


@given(plain, st.data())
@settings(max_examples=300)
def test_a_damaged_frame_decodes_or_is_a_wire_error(value: object, data: st.DataObject) -> None:
    frame = bytearray(wire.encode({"value": value, "array": numpy.arange(3)}))
    json_length, _ = wire.HEADER.unpack(frame[: wire.HEADER.size])
    body = frame[wire.HEADER.size :]
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wire.WireError):
        wire.decode(bytes(body[:json_length]), bytes(body[json_length:]))


def test_a_frame_longer_than_the_limit_is_refused_before_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(wire.HEADER.pack(2**32 - 1, 0))
        with pytest.raises(wire.WireError, match="over the limit"):
            wire.Pipe(ours.fileno()).receive()


def test_ends_and_deadlines_are_told_apart() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pipe = wire.Pipe(ours.fileno())
            with pytest.raises(wire.Overdue):
                pipe.receive(time.monotonic() + 0.05)
            wire.Pipe(theirs.fileno()).send({"a": 1})
            assert pipe.receive() == {"a": 1}
            os.write(theirs.fileno(), b"\0\0")
        with pytest.raises(wire.WireError, match="middle"):
            pipe.receive()
        with pytest.raises(wire.EndOfFrames):
            wire.Pipe(ours.fileno()).receive()


def test_floats_cross_exactly() -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.pi, math.inf, -math.inf]
    assert crossed(values) == values
    assert math.isnan(crossed(math.nan))  # type: ignore[arg-type]


def test_a_frame_of_too_many_values_is_refused_by_both_sides_before_it_is_parsed() -> None:
    for unit in (b"[]", b'"a"'):
        body = b'{"v":[' + b",".join([unit] * (wire.MAX_VALUES + 1)) + b"]}"
        body = body[: wire.MAX_JSON_BYTES]
        started = time.thread_time()
        with pytest.raises(wire.WireError, match="values"):
            wire.decode(body, b"")
        assert time.thread_time() - started < 2
    for value in ([0] * (wire.MAX_VALUES + 1), [()] * (wire.MAX_VALUES // 5)):
        with pytest.raises(wire.WireError, match="array"):
            wire.encode({"v": value})


def test_as_many_values_as_there_may_be_cross() -> None:
    numbers = [0.5] * (wire.MAX_VALUES - 3)
    assert crossed(numbers) == numbers


def test_marks_within_texts_are_no_values() -> None:
    for text in ("[," * 1_500_000, '\\"[,' * 800_000):
        assert crossed([text, 1]) == [text, 1]


def test_texts_that_never_end_are_looked_through_once() -> None:
    for filler in (b'\\"', b"\\", b'"', b",[", b'"",'):
        body = b'{"v":"' + filler * (8_000_000 // len(filler))
        started = time.thread_time()
        with pytest.raises(wire.WireError):
            wire.decode(body, b"")
        assert time.thread_time() - started < 2


def test_a_tag_in_escapes_is_a_tag_all_the_same() -> None:
    assert wire.decode(b'{"a":{"\\u0021":["tuple",[1]]}}', b"") == {"a": (1,)}


def test_what_is_sent_is_not_changed_by_sending() -> None:
    value = {"v": [1, [2, (3, {"a": [math.nan]})], {4: 5}]}
    before = repr(value)
    wire.encode(value)
    assert repr(value) == before
