"""The wire's decoder against its corpus, and against frames built to cost far more than they weigh."""

import os
import socket
import threading
import time
from pathlib import Path

import numpy
import pytest

from selftaught.sandbox.guest import wire
from selftaught.sandbox.layers import STRONG
from selftaught.sandbox.zygote import Zygote

CORPUS = sorted((Path(__file__).parent / "corpus" / "wire").glob("*.bin"))


def decoded(frame: bytes) -> dict[str, object]:
    length, _ = wire.HEADER.unpack_from(frame)
    body = frame[wire.HEADER.size :]
    return wire.decode(body[:length], body[length:])


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_frame_of_the_corpus_decodes_and_crosses_again_unchanged(path: Path) -> None:
    message = decoded(path.read_bytes())
    again = decoded(wire.encode(message))
    # A set has no order to be printed in.
    assert again == message if "set" in path.stem else repr(again) == repr(message)


def test_bytes_that_two_values_claim_are_refused() -> None:
    """Or 8 MB of text could ask for a hundred thousand copies of 64 MB."""
    one = b'{"!":["array","<f8",[1],0]}'
    assert (wire.decode(b'{"a":' + one + b"}", bytes(8))["a"] == numpy.zeros(1)).all()
    with pytest.raises(wire.WireError, match="bad place"):
        wire.decode(b'{"a":[' + one + b"," + one + b"]}", bytes(8))


def test_bytes_that_no_value_claims_are_refused() -> None:
    with pytest.raises(wire.WireError, match="no value"):
        wire.decode(b'{"a":1}', b"left over")
    with pytest.raises(wire.WireError):
        wire.decode(b'{"a":1} {"b":2}', b"")


# The hash of an int is its remainder by this prime: all multiples of it collide.
_PRIME = 2**61 - 1


@pytest.mark.parametrize("kind", ["set", "dict"])
def test_keys_that_collide_are_refused_in_bounded_time(kind: str) -> None:
    """The cost grows with the square of their number: a whole frame's would take many minutes."""
    one = "%d" if kind == "set" else "[%d,0]"
    keys = ",".join(one % (n * _PRIME) for n in range(1, 60_000))
    started = time.thread_time()
    with pytest.raises(wire.WireError, match="collide"):
        wire.decode(f'{{"a":{{"!":["{kind}",[{keys}]]}}}}'.encode(), b"")
    assert time.thread_time() - started < 5


def test_a_large_honest_set_and_dict_cross() -> None:
    value = {"s": set(range(100_000)), "d": {n: n for n in range(100_000)}}
    assert decoded(wire.encode({"v": value})) == {"v": value}


def test_a_peer_that_never_reads_does_not_stop_the_sender() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(wire.Overdue):
            wire.Pipe(ours.fileno()).send_frames(bytes(1 << 24), time.monotonic() + 0.1)


def test_a_frame_in_many_pieces_arrives_whole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        message = {"a": numpy.arange(50_000.0), "b": ["x" * 70_000]}
        frame = wire.encode(message)

        def dribble() -> None:
            for at in range(0, len(frame), 9_973):
                os.write(theirs.fileno(), frame[at : at + 9_973])

        writer = threading.Thread(target=dribble)
        writer.start()
        back = wire.Pipe(ours.fileno()).receive(time.monotonic() + 10)
        writer.join()
    assert back["b"] == message["b"]
    assert (back["a"] == message["a"]).all()


def test_a_zygote_outlives_the_thread_that_started_it() -> None:
    """Without namespaces, too: a pool starts its zygotes from threads that end."""
    started: list[Zygote] = []
    thread = threading.Thread(target=lambda: started.append(Zygote(STRONG[1])))
    thread.start()
    thread.join()
    time.sleep(0.2)
    try:
        assert started[0].fork(2**28).close() == -9
    finally:
        started[0].close()
