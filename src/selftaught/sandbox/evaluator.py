"""The evaluator: a trusted process that scores candidates which never enter it.

`python -m selftaught.sandbox.evaluator` reads score requests on stdin and answers on stdout, in
frames. It holds the scorers and their hidden instances; the candidates are children of its
zygotes. It gets no key and no environment. The host restarts it if it dies.
"""

import gc
import importlib.util
import os
import select
import sys
import threading
import time
from types import ModuleType
from typing import Any

import msgspec

from selftaught.errors import ProcessLost, SandboxUnavailable
from selftaught.pool import Attempt
from selftaught.sandbox.candidate import SandboxedCandidate, printable
from selftaught.sandbox.compiled_candidate import CompiledCandidate
from selftaught.sandbox.grant import Grant
from selftaught.sandbox.guest import wire
from selftaught.sandbox.zygote import Zygote
from selftaught.task import TaskFile
from selftaught.utility import (
    CandidateError,
    Outcome,
    Split,
    scored,
)

# Between the end of the input and that of the process, for an orderly one.
HOST_GRACE_S = 1.0


class Evaluator:
    """Scores one candidate at a time; keeps a zygote per set of modules and permissions."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self._layers = layers
        self._zygotes: dict[tuple[tuple[str, ...], Grant], Zygote] = {}
        self._utilities: dict[str, ModuleType] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Score what a request asks for.

        Returns:
            The outcome as JSON text with the attempts, or why there is none: a defect of the task,
            or a sandbox that broke.
        """
        file = msgspec.json.decode(request["file"], type=TaskFile)
        attempts: list[Attempt] = []
        try:
            outcome = self._score(request, file, attempts)
        except SandboxUnavailable as error:
            # No defect of the task: the host starts this process anew, and tries once more.
            return {"broken": printable(str(error)), "lost": isinstance(error, ProcessLost)}
        except Exception as error:  # noqa: BLE001 - a task's defect is told, and ends nothing here
            # A key of its own: no reason that a candidate makes up can pass for this.
            return {"defect": printable(f"{type(error).__name__}: {error}")}
        return {
            "outcome": msgspec.json.encode(outcome).decode(),
            "attempts": [[a.what, a.detail] for a in attempts[:50]],
        }

    def close(self) -> None:
        """End the zygotes."""
        for zygote in self._zygotes.values():
            zygote.close()

    def _score(self, request: dict[str, Any], file: TaskFile, attempts: list[Attempt]) -> Outcome:
        split = Split(request["split"], file.splits[request["split"]].instances)
        sign = 1.0 if file.direction == "maximize" else -1.0
        candidate: SandboxedCandidate | CompiledCandidate | None = None
        try:
            grant = msgspec.json.decode(request["grant"], type=Grant)
            zygote = self._zygote(file.modules, grant)
            if grant.toolchain is None:
                candidate = SandboxedCandidate(
                    zygote, request["source"], file.limits, request["seed"]
                )
            else:
                candidate = CompiledCandidate(zygote, request["source"], file.limits)
            utility = self._utility(request["folder"])
            result = utility.score(candidate, split, request["seed"], **file.parameters)
        except CandidateError as error:
            return error.outcome
        finally:
            if candidate is not None:
                attempts.extend(candidate.attempts)
                candidate.close()
        return scored(result, sign)

    def _zygote(self, modules: tuple[str, ...], grant: Grant) -> Zygote:
        if (modules, grant) not in self._zygotes:
            self._zygotes[modules, grant] = Zygote(self._layers, modules, grant=grant)
        return self._zygotes[modules, grant]

    def _utility(self, folder: str) -> ModuleType:
        if folder not in self._utilities:
            path = os.path.join(folder, "utility.py")
            spec = importlib.util.spec_from_file_location(f"utility_{len(self._utilities)}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self._utilities[folder] = module
        return self._utilities[folder]


def _end_with_host(descriptor: int) -> None:
    """End this process soon after its input was closed, even in the middle of a candidate's call.

    A host that is killed cannot stop what it started; a candidate may sleep for its whole wall cap.
    """
    hang_up = select.poll()
    hang_up.register(descriptor, 0)
    hang_up.poll()
    time.sleep(HOST_GRACE_S)
    os._exit(1)


def main() -> None:
    """Serve score requests until stdin ends."""
    # What a utility prints must not mix with the frames.
    frames = wire.Pipe(os.dup(0), os.dup(1))
    os.dup2(2, 1)
    threading.Thread(target=_end_with_host, args=(frames.read_fd,), daemon=True).start()
    evaluator = Evaluator(tuple(sys.argv[1].split(",")))
    frames.send({"ready": True})
    try:
        while True:
            try:
                request = frames.receive()
            except wire.EndOfFrames:
                return
            frames.send(evaluator.answer(request))
    finally:
        evaluator.close()
        # A last search for garbage would only delay the end.
        gc.freeze()


if __name__ == "__main__":
    main()
