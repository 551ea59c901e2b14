"""A model in a file on this machine, computed by llama.cpp in a process of its own.

The process is started with the first request and spoken to over the loopback address, like any
other OpenAI-compatible server. It is a process because the library is native code: where it
crashes, or runs out of memory, the run ends with a sentence and not with a signal.
"""

import importlib.util
import os
import secrets
import select
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from selftaught.errors import ModelRefused, ModelUnreachable, UsageError
from selftaught.language_model import Answer, ModelSettings, Request, Usage
from selftaught.models.hosted import Waiting
from selftaught.models.local_server import ServerSettings, Started
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.models.side_by_side import side_by_side

PREFIX = "local/"
EXTRA = "selftaught[local]"
# Of all requests under way together: four long prompts with their answers, or many short ones.
CONTEXT_TOKENS = 16_384
_MAX_PARALLEL = 4
# A process that has ended does not come back, unlike a server far away.
_MAX_RETRIES = 1
_MAGIC = b"GGUF"
_START_S = 600.0
_END_S = 5.0
_LOOK_S = 0.2
_LAST_WORDS_CHARS = 300
# What the process needs; keys of providers are not among it.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
_ENVIRONMENT_PREFIXES = ("LC_", "LD_", "CUDA_", "GGML_", "HIP_", "ROCR_", "VK_", "OMP_")


def is_installed() -> bool:
    """Whether the library that computes local models is there."""
    return importlib.util.find_spec("xllamacpp") is not None


class LocalModel:
    """Implements `selftaught.language_model.LanguageModel` with a GGUF file.

    Thread safety: `respond` may be called from any number of threads.
    Determinism: the seed is sent with each request. Requests that are computed together share
    their arithmetic, which may change the last digits and with them an answer.

    Args:
        name: `local/PATH.gguf`.
        settings: how it is asked; `concurrency` requests are computed at once, 4 at most.
        waiting: how it repeats and waits, and who is told.

    Raises:
        UsageError: there is no such file, it is no GGUF file, or the library is not installed.
    """

    is_language_model = True

    def __init__(
        self, name: str, settings: ModelSettings, *, waiting: Waiting | None = None
    ) -> None:
        self.name = name
        self._path = _checked(name)
        self._settings = settings
        waiting = waiting or Waiting()
        self._waiting = msgspec.structs.replace(waiting, max_retries=_MAX_RETRIES)
        self._server: _Server | None = None
        self._model: OpenAICompatibleModel | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> "LocalModel":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The process that computes; None before the first request."""
        return None if self._server is None else self._server.process.pid

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return `request.n_responses` responses, each asked for by itself.

        The server reports the tokens of one of them only where it is asked for several, and
        keeps a prompt that it has just read.

        Raises:
            RequestRejected: the request does not fit into the model's context, for instance.
            ModelUnreachable: the model cannot be loaded, its process ended, or it was closed.
        """
        model = self._started()
        single = msgspec.structs.replace(request, n_responses=1)
        calls = [
            partial(model.respond, single, seed=seed, occurrence=occurrence + i, key=f"{key}/{i}")
            for i in range(request.n_responses)
        ]
        try:
            return _joined(side_by_side(calls, self._settings.concurrency))
        except ModelUnreachable as error:
            if self._server is not None and not self._closed:
                self._server.check(error)
            raise

    def close(self) -> None:
        """End the process and wait until it is gone. Safe to call twice."""
        with self._lock:
            self._closed = True
            if self._model is not None:
                self._model.close()
            if self._server is not None:
                self._server.close()

    def _started(self) -> OpenAICompatibleModel:
        with self._lock:
            if self._closed:
                raise ModelUnreachable(f"The model {self.name!r} was closed.")
            if self._model is None:
                settings = self._settings
                if self._server is None:
                    self._server = _Server(self._path, settings.concurrency)
                server = self._server
                self._model = OpenAICompatibleModel(
                    self._path.stem,
                    base_url=f"{server.address}/v1",
                    api_key=server.api_key,
                    settings=settings,
                    waiting=self._waiting,
                    send_seed=True,
                )
            return self._model


class _Server:
    """The process with the model.

    Raises:
        ModelUnreachable: it did not start.
    """

    def __init__(self, path: Path, concurrency: int) -> None:
        self.api_key = secrets.token_urlsafe(24)
        self.address = ""
        self._path = path
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "selftaught.models.local_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
        )
        settings = ServerSettings(
            path=str(path),
            api_key=self.api_key,
            threads=free_cores(),
            parallel=min(concurrency, _MAX_PARALLEL),
            context_tokens=CONTEXT_TOKENS,
        )
        try:
            self.address = self._begin(settings)
        except BaseException:
            self.close()
            raise

    def check(self, error: ModelUnreachable) -> None:
        """Raise with the process's last words where it has ended."""
        try:
            status = self.process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            return
        raise ModelUnreachable(
            f"The process that computes {str(self._path)!r} ended with status {status}"
            f"{self._last_words()}. A smaller model may fit."
        ) from error

    def close(self) -> None:
        """End the process, by force if need be, and reap it."""
        stdin, stdout = self.process.stdin, self.process.stdout
        for pipe in (stdin, stdout):
            if pipe is not None and not pipe.closed:
                _close(pipe)
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def _begin(self, settings: ServerSettings) -> str:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        # One that has ended already says why below.
        with suppress(BrokenPipeError):
            stdin.write(msgspec.json.encode(settings) + b"\n")
            stdin.flush()
        deadline = time.monotonic() + _START_S
        while not select.select([stdout], [], [], _LOOK_S)[0]:
            if time.monotonic() > deadline:
                raise ModelUnreachable(f"{str(self._path)!r} was not loaded within {_START_S:g} s.")
        try:
            said = msgspec.json.decode(stdout.readline(), type=Started)
        except msgspec.DecodeError:
            said = Started(error="the process ended")
        if not said.address:
            raise ModelRefused(
                f"{str(self._path)!r} cannot be loaded: {said.error}{self._last_words()}."
            )
        return said.address

    def _last_words(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f" ({text[-1][-_LAST_WORDS_CHARS:].strip().rstrip('.')})" if text else ""


def free_cores() -> int:
    """Cores that nobody uses now, at least 1: more threads than that slow each other down."""
    cores = len(os.sched_getaffinity(0))
    return max(1, cores - round(os.getloadavg()[0]))


def _checked(name: str) -> Path:
    path = Path(name.removeprefix(PREFIX)).expanduser()
    if not is_installed():
        raise UsageError(
            f"{name!r} needs the library that computes local models: pip install '{EXTRA}'."
        )
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise UsageError(
            f"The model file {str(path)!r} cannot be read: {error.strerror or error}."
        ) from error
    if magic != _MAGIC:
        raise UsageError(f"{str(path)!r} is no GGUF file, the format that local models come in.")
    return path.absolute()


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }


def _close(pipe: IO[bytes]) -> None:
    # What was not written yet is of no use to a process that has ended.
    with suppress(BrokenPipeError):
        pipe.close()


def _joined(answers: list[Answer]) -> Answer:
    usages = [answer.usage for answer in answers]
    return Answer(
        texts=tuple(text for answer in answers for text in answer.texts),
        usage=Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            cached_tokens=sum(usage.cached_tokens for usage in usages),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        ),
        truncated=tuple(index for index, answer in enumerate(answers) if answer.truncated),
        attempts=sum(answer.attempts for answer in answers),
    )
