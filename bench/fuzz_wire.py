"""Fuzz the decoder of the wire: mutated frames must decode or be a WireError, fast and small.

    python bench/fuzz_wire.py --seconds 600      exits with 1 where anything was found
    python bench/fuzz_wire.py --write-corpus     write tests/corpus/wire anew
    python bench/fuzz_wire.py --atheris          guided by coverage; needs `pip install atheris`

Found are: any other exception, a decode over half a second of CPU time, and one that makes the
process's peak memory grow by over 64 MiB (frames are at most 64 KiB). A decoded message is encoded
and decoded again, which must give the same. Seeded: the same seed tries the same frames. With
atheris the frames depend on the machine's speed, and one that is found is written by libFuzzer.
"""

import argparse
import contextlib
import importlib
import os
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy

from selftaught.sandbox.guest import wire

CORPUS = Path(__file__).parents[1] / "tests" / "corpus" / "wire"
MAX_BYTES = 65_536
SLOW_S = 0.5
HUNGRY_KIB = 64 * 1024
TOKENS = (
    b'{"!":["set",', b'{"!":["dict",', b'{"!":["tuple",', b'{"!":["array","<f8",[', b'["bytes",0,',
    b'{"!":["float","nan"]}', b"[[", b"]]", b"{", b"}", b'"!"', b":", b",", b"null", b"true",
    b"NaN", b"-Infinity", b"1e999", b"-0", b"0", b"1", b"-1", b"9223372036854775808",
    b"2305843009213693951", b"4611686018427387902", b"1" * 400, b"0." + b"3" * 400,
    b"\\ud800", b"\\u0000",
    b"\xff", b"\xed\xa0\x80",
    b'"|O"', b'"<c16"', b'"<f2"', b"[" * 130, b"]" * 130, b'{"a":' * 70, b"\xef\xbb\xbf", b" ",
)  # fmt: skip


def seed_frames() -> dict[str, bytes]:
    """Frames as senders make them, one for each kind of value and message."""
    nested: Any = 1
    for _ in range(50):
        nested = [nested]
    values = {
        "empty": {},
        "null": {"ok": None},
        "numbers": {"ok": [0, -1, 2**70, 0.1, -0.0, 5e-324, 1e308]},
        "not_finite": {"ok": [float("nan"), float("inf"), float("-inf")]},
        "text": {"ok": "h\u00e9llo \u4e16\u754c \U0001f600 \0 \ud800"},
        "tuple": {"ok": (1, (2, ()), [3])},
        "set": {"ok": {1, "a", (2, 3), None}},
        "frozenset_of_ints": {"ok": frozenset(range(40))},
        "dict_of_ints": {"ok": {n: str(n) for n in range(20)}},
        "dict_of_tuples": {"ok": {(n, -n): [n] for n in range(10)}},
        "dict_with_mark": {"ok": {"!": 1, "a": {"!": 2}}},
        "bytes": {"ok": [b"", b"abc", bytes(range(256))]},
        "floats": {"ok": numpy.linspace(0, 1, 12).reshape(3, 4)},
        "arrays": {"ok": [numpy.arange(5, dtype="<i2"), numpy.zeros((2, 0, 3)), numpy.ones(())]},
        "complex_and_bool": {"ok": (numpy.array([1 + 2j]), numpy.array([True, False]))},
        "array_and_bytes": {"ok": {"a": numpy.arange(3), "b": b"xyz", "c": {1: numpy.zeros(2)}}},
        "nested": {"ok": nested},
        "load": {"op": "load", "source": "def algorithm(x):\n    return x\n", "work": 9, "seed": 1},
        "call": {"op": "call", "entry_point": "algorithm", "args": [[1, 2], {}], "seed": 7923},
        "ask": {"ask": 3, "method": "score", "params": {"solutions": ["a", None]}},
        "note": {"note": "open", "detail": "open '/etc/passwd' r"},
        "failed": {"failed": "work", "reason": "the limit was reached", "log": "x" * 100},
    }
    return {name: wire.encode(value) for name, value in values.items()}


def parts(frame: bytes) -> tuple[bytes, bytes]:
    """The two parts of a frame."""
    length, _ = wire.HEADER.unpack_from(frame)
    body = frame[wire.HEADER.size :]
    return body[:length], body[length:]


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage bytes in one to six ways."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(out) + 1)
        to = min(len(out), at + rng.choice((1, 2, 4, 16, 200)))
        way = rng.randrange(8)
        if way == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif way == 2:
            del out[at:to]
        elif way == 3:
            out[at:at] = rng.choice(TOKENS)
        elif way == 4:
            out[at:to] = rng.choice(TOKENS)
        elif way == 5:
            out[at:at] = out[at:to] * rng.choice((1, 2, 50, 1000))
        elif way == 6:
            cut = rng.randrange(len(other) + 1)
            out[at:at] = other[cut : cut + rng.choice((4, 16, 64, 1000))]
        else:
            number = str(rng.choice((rng.randrange(-9, 99), 2 ** rng.randrange(70)))).encode()
            out[at:to] = number
    return bytes(out[:MAX_BYTES])


def through_pipe(frame: bytes) -> None:
    """Read mutated bytes as a host does, header and all, until they end."""
    read, write = os.pipe()
    try:
        os.write(write, frame[:60_000])
        os.close(write)
        pipe = wire.Pipe(read)
        while True:
            pipe.receive(time.monotonic() + 1)
    except wire.EndOfFrames:
        pass
    finally:
        os.close(read)


def again(body: bytes, blob: bytes) -> None:
    """Decode, and let what came out cross once more."""
    message = wire.decode(body, blob)
    second = wire.decode(*parts(wire.encode(message)))
    if not same(message, second):
        raise AssertionError("what was decoded does not cross unchanged")


def same(one: Any, other: Any) -> bool:
    """Whether two decoded values are equal, type by type, NaN to NaN; a set has no order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, set):
        return Counter(map(repr, one)) == Counter(map(repr, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, numpy.ndarray):
        told = [(a.dtype, a.shape, a.tobytes()) for a in (one, other)]
        return told[0] == told[1]
    return repr(one) == repr(other)


class Fuzzer:
    """Tries frames and keeps what was found."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._pool = [path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))]
        self.counts: Counter[str] = Counter()
        self.found: list[tuple[str, bytes]] = []
        self.slowest_s = 0.0
        self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def step(self) -> None:
        """Try one mutated frame."""
        rng = self._rng
        frame, other = rng.choice(self._pool), rng.choice(self._pool)
        started = time.process_time()
        try:
            if rng.random() < 0.15:
                frame = mutate(frame, other, rng)
                through_pipe(frame)
            else:
                body, blob = parts(frame)
                body = mutate(body, parts(other)[0], rng)
                if rng.random() < 0.2:
                    blob = mutate(blob, parts(other)[1], rng)
                frame = struct.pack(">II", len(body), len(blob)) + body + blob
                again(body, blob)
            what = "decoded"
        except wire.WireError:
            what = "WireError"
        except wire.Overdue:
            what = "overdue"
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            what = f"{type(error).__name__}: {error}"[:100]
            self._keep(what, frame)
        self.counts[what] += 1
        self._weigh(time.process_time() - started, frame)
        if what == "decoded" and len(self._pool) < 2000 and rng.random() < 0.02:
            # A damaged frame that still decodes leads further.
            self._pool.append(frame)

    def _weigh(self, seconds: float, frame: bytes) -> None:
        self.slowest_s = max(self.slowest_s, seconds)
        if seconds > SLOW_S:
            self._keep(f"slow: {seconds:.2f} s", frame)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if peak - self._peak > HUNGRY_KIB:
            self._keep(f"hungry: {(peak - self._peak) // 1024} MiB", frame)
        self._peak = max(self._peak, peak)

    def _keep(self, what: str, frame: bytes) -> None:
        if len(self.found) < 20:
            self.found.append((what, frame))
            print(f"FOUND {what}: {frame[:80]!r} ({len(frame)} bytes)", flush=True)


def guided(seconds: float, seed: int) -> None:
    """Fuzz by coverage. Never returns: libFuzzer ends the process, with 0 if nothing was found."""
    try:
        import atheris
    except ImportError:
        sys.exit("--atheris needs atheris, which is no dependency: pip install atheris")
    with atheris.instrument_imports():
        importlib.reload(wire)

    def one(frame: bytes) -> None:
        length = min(int.from_bytes(frame[:4], "big"), len(frame))
        body = frame[wire.HEADER.size : wire.HEADER.size + length]
        with contextlib.suppress(wire.WireError):
            again(body, frame[wire.HEADER.size + length :])

    with tempfile.TemporaryDirectory() as grown:
        limits = [f"-max_total_time={seconds:.0f}", f"-max_len={MAX_BYTES}", "-timeout=5",
                  "-rss_limit_mb=1024", f"-seed={seed + 1}"]  # fmt: skip
        atheris.Setup([sys.argv[0], *limits, grown, str(CORPUS)], one)
        atheris.Fuzz()


def main() -> int:
    """Fuzz for a while; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-corpus", action="store_true")
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for what is found")
    options = parser.parse_args()
    if options.write_corpus:
        CORPUS.mkdir(parents=True, exist_ok=True)
        for name, frame in seed_frames().items():
            (CORPUS / f"{name}.bin").write_bytes(frame)
        print(f"{len(seed_frames())} frames in {CORPUS}")
        return 0
    if options.atheris:
        guided(options.seconds, options.seed)
    fuzzer = Fuzzer(options.seed)
    started = time.monotonic()
    executions = 0
    while time.monotonic() - started < options.seconds:
        for _ in range(200):
            fuzzer.step()
        executions += 200
    seconds = time.monotonic() - started
    print(f"{executions:,} executions in {seconds:.0f} s ({executions / seconds:,.0f}/s)")
    print(f"outcomes: {dict(fuzzer.counts.most_common(8))}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"slowest decode {fuzzer.slowest_s:.3f} s of CPU; peak memory {peak:.0f} MiB")
    print(f"found: {len(fuzzer.found)}")
    if options.keep and fuzzer.found:
        options.keep.mkdir(parents=True, exist_ok=True)
        for number, (_, frame) in enumerate(fuzzer.found):
            (options.keep / f"{number}.bin").write_bytes(frame)
    return 1 if fuzzer.found else 0


if __name__ == "__main__":
    sys.exit(main())
