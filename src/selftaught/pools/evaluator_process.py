"""The host's side of one evaluator process: start, ask, restart when it breaks."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from selftaught.errors import SandboxUnavailable, TaskError
from selftaught.pool import MAX_STARTS, MORE_MEMORY, Attempt, ScoreJob
from selftaught.sandbox.compiled_candidate import BUILDER_GRACE_S
from selftaught.sandbox.grant import NOTHING, Grant
from selftaught.sandbox.guest import wire
from selftaught.sandbox.zygote import how_ended
from selftaught.utility import OUTCOMES, Failed, InvalidValue, Outcome

# Beyond what its candidate's limits add up to: instances are made and answers verified in this.
SCORER_GRACE_S = 60.0
START_S = 30.0
_PACKAGE_ROOT = str(Path(__file__).parents[2])


class EvaluatorProcess:
    """One evaluator; used by one thread at a time."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self._layers = layers
        # A file and not a pipe: what a utility prints may be long, and nobody reads it.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.is_killed = False
        try:
            self._start()
        except BaseException:
            self._said.close()
            raise

    def _start(self) -> None:
        for start in range(1, MAX_STARTS + 1):
            self._launch()
            try:
                self._receive(time.monotonic() + START_S)
                return
            except wire.Overdue as error:
                self._end(grace_s=0.0)
                raise self._not_started(f"it did not answer within {START_S:g} s") from error
            except (wire.EndOfFrames, wire.WireError) as error:
                code = self._end(grace_s=0.0)
                if code != -signal.SIGKILL or self.is_killed:
                    raise self._not_started(how_ended(code)) from error
                if start == MAX_STARTS:
                    raise SandboxUnavailable(
                        f"The evaluator could not start: {how_ended(code)}. It was so {start} "
                        f"times. {MORE_MEMORY}"
                    ) from error

    def _not_started(self, how: str) -> SandboxUnavailable:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return SandboxUnavailable(f"The evaluator could not start: {lines[-1] if lines else how}.")

    def _launch(self) -> None:
        environment = {
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join([_PACKAGE_ROOT, *filter(None, sys.path)]),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "LC_ALL": "C.UTF-8",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "selftaught.sandbox.evaluator", ",".join(self._layers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._frames = wire.Pipe(self._process.stdout.fileno(), self._process.stdin.fileno())

    def score(self, job: ScoreJob, grant: Grant = NOTHING) -> tuple[Outcome, list[Attempt]]:
        """Score a job; returns the outcome and what the candidate tried.

        Raises:
            SandboxUnavailable: `kill` was called; or the machine killed a process of the sandbox
                MAX_STARTS times, which is no outcome of the program.
        """
        request = {
            "folder": job.task.folder,
            "file": msgspec.json.encode(job.task.file).decode(),
            "grant": msgspec.json.encode(grant).decode(),
            "source": job.solution.source,
            "split": job.split,
            "seed": job.task.instance_seed(job.split, job.repeat),
        }
        limits = job.task.file.limits
        instances = job.task.split(job.split).instances
        allowed_s = SCORER_GRACE_S + instances * limits.wall_cap_s
        if grant.toolchain is not None:
            allowed_s += 3 * limits.compile_s + BUILDER_GRACE_S
        reply: dict[str, Any] | None = None
        for start in range(1, MAX_STARTS + 1):
            try:
                self._frames.send(request)
                reply = self._receive(time.monotonic() + allowed_s)
                if "broken" not in reply:
                    break
                self._restart()
                is_lost = bool(reply["lost"])
                reason = f"the sandbox broke while scoring: {reply['broken']}"
            except wire.Overdue:
                self._restart()
                return Failed(reason=f"the utility did not answer within {allowed_s:g} s"), []
            except (wire.EndOfFrames, wire.WireError, BrokenPipeError) as error:
                if self.is_killed:
                    raise SandboxUnavailable("The evaluator was ended.") from error
                code = self._restart()
                is_lost = code == -signal.SIGKILL
                reason = f"the evaluator ended while scoring: {how_ended(code)} ({error})"
            # Once may be the machine's doing however it ended; SIGKILL is so every time.
            if is_lost and start == MAX_STARTS:
                raise SandboxUnavailable(
                    f"A program could not be scored, since {reason}. It was so {start} times. "
                    + MORE_MEMORY
                )
            if not is_lost and start > 1:
                return Failed(reason=reason[:600]), []
        assert reply is not None
        if "defect" in reply:
            defect = str(reply["defect"])
            if job.solution.source == job.task.initial.source:
                raise TaskError(
                    f"Task {job.task.name!r} itself failed: {defect}. Mend its utility.py, and "
                    "try it with `selftaught check-task`."
                )
            # A program may return what its utility did not expect; that ends no run.
            return InvalidValue(reason=f"the utility could not score it: {defect}"), []
        outcome: Outcome = OUTCOMES.decode(reply["outcome"])
        attempts = [Attempt(what=str(w), detail=str(d)) for w, d in reply["attempts"]]
        return outcome, attempts

    def _receive(self, deadline: float) -> dict[str, Any]:
        reply: dict[str, Any] = self._frames.receive(deadline)
        return reply

    def _restart(self) -> int:
        code = self._end(grace_s=0.0)
        self._start()
        return code

    def kill(self) -> None:
        """End the process while another thread uses it; that one gets SandboxUnavailable."""
        self.is_killed = True
        self._process.kill()

    def close(self) -> None:
        """End the process for good; nobody uses it any more."""
        self._end(grace_s=2.0)
        self._said.close()

    def _end(self, grace_s: float) -> int:
        """End the process: by the end of its input, then by force. Returns its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.stdout.close()
        return self._process.wait()
