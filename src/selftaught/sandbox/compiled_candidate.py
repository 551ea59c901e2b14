"""A candidate in a compiled language, as a trusted utility sees it: a program that can be run.

It is compiled once, at the first run, and kept for all instances of one evaluation. Each run is a
process of its own; nothing but the private folder, if the task permits one, is there for the next.
"""

from collections.abc import Sequence
from typing import Any, AnyStr

from selftaught.errors import TaskError
from selftaught.pool import Attempt
from selftaught.sandbox.candidate import claimed_failure, ended
from selftaught.sandbox.guest import wire
from selftaught.sandbox.zygote import Child, CpuLimitReached, Zygote
from selftaught.task import Limits
from selftaught.utility import CandidateError, Failed, InvalidAnswer, TimedOut

# The builder keeps the limits; this much later it is taken for stuck.
BUILDER_GRACE_S = 10.0
_BUILDER_MEMORY_BYTES = 1 << 30
# It feeds, waits and copies: what it computes itself is little.
_BUILDER_CPU_S = 30.0
REASON_CHARS = 2_200
MAX_INPUT_BYTES = 32 << 20
MAX_ARGUMENT_CHARS = 100_000


class CompiledCandidate:
    """Implements `selftaught.utility.Candidate` over a zygote that was granted a toolchain."""

    def __init__(self, zygote: Zygote, source: str, limits: Limits) -> None:
        self._zygote = zygote
        self._source = source
        self._limits = limits
        self._builder: Child | None = None
        self._broken: CandidateError | None = None
        self.attempts: list[Attempt] = []

    @property
    def source(self) -> str:
        """The program text."""
        return self._source

    def call(self, entry_point: str, *args: Any, time_limit_s: float | None = None) -> Any:
        """Refused: a compiled program has no functions to call."""
        raise TaskError(
            f"solution.call({entry_point!r}) calls a function of a Python program; this task "
            "permits a compiler, so its utility uses solution.run(stdin)."
        )

    def call_many(
        self, entry_point: str, calls: Sequence[tuple[Any, ...]], time_limit_s: float | None = None
    ) -> list[Any]:
        """Refused, as `call` is."""
        return [self.call(entry_point)]

    def run(
        self, stdin: AnyStr, args: tuple[str, ...] = (), time_limit_s: float | None = None
    ) -> AnyStr:
        """Run the program on an input; see `selftaught.utility.Candidate.run`."""
        if self._broken is not None:
            raise self._broken
        data = stdin.encode() if isinstance(stdin, str) else stdin
        if len(data) > MAX_INPUT_BYTES:
            raise TaskError(
                f"solution.run() was given {len(data):,} bytes; at most {MAX_INPUT_BYTES:,} fit."
            )
        if any("\0" in text for text in args) or sum(map(len, args)) > MAX_ARGUMENT_CHARS:
            raise TaskError(
                "The arguments of solution.run() hold a character of code 0, or more than "
                f"{MAX_ARGUMENT_CHARS:,} characters; give long input as stdin."
            )
        if self._builder is None:
            self._compile()
        limits = self._limits
        limit_s = limits.time_s if time_limit_s is None else time_limit_s
        wall_s = limits.wall_cap_s if time_limit_s is None else 10 * time_limit_s + 1
        message = {
            "op": "run",
            "stdin": data,
            "args": list(args),
            "cpu_s": limit_s,
            "wall_s": wall_s,
            "memory_bytes": limits.memory_bytes - self._zygote.grant.tmp_bytes,
        }
        printed = self._exchange(message, wall_s)
        if not isinstance(printed, bytes):
            raise InvalidAnswer("the builder sent no output")
        if isinstance(stdin, str):
            try:
                return printed.decode()
            except UnicodeDecodeError as error:
                raise InvalidAnswer(f"the output is no UTF-8: {error}") from error
        return printed

    def close(self) -> None:
        """Kill the builder and everything that it started."""
        if self._builder is not None:
            builder, self._builder = self._builder, None
            builder.close()

    def _compile(self) -> None:
        self._builder = self._zygote.fork(_BUILDER_MEMORY_BYTES)
        cpu_s, wall_s = self._limits.compile_s, 3 * self._limits.compile_s
        message = {"op": "load", "source": self._source, "cpu_s": cpu_s, "wall_s": wall_s}
        try:
            self._exchange(message, wall_s)
        except CandidateError as error:
            self.close()
            self._broken = error
            raise

    def _exchange(self, message: dict[str, Any], wall_s: float) -> Any:
        builder = self._builder
        assert builder is not None
        wall_s += BUILDER_GRACE_S
        try:
            builder.send(message)
            reply = builder.receive(
                cpu_limit_s=_BUILDER_CPU_S, wall_limit_s=wall_s, on_attempt=self.attempts.append
            )
        except CpuLimitReached:
            self.close()
            raise CandidateError(Failed(reason="the builder was kept busy")) from None
        except wire.Overdue:
            self.close()
            raise CandidateError(TimedOut(reason=f"more than {wall_s:g} s by the clock")) from None
        except (wire.EndOfFrames, wire.WireError) as error:
            self._builder = None
            raise CandidateError(ended(builder.close(), error)) from None
        if "ok" in reply:
            return reply["ok"]
        raise CandidateError(claimed_failure(reply, REASON_CHARS))
