"""Answers of any run in a store, found again by everything that an answer depends on.

The key holds the seed of the place where a request is made. Two places of a run, such as two
repeats of a task, may send the same request, and their answers must be two: without the seed the
second would be the first again, and a mean over both no better than over one. Improvers that are
compared at one place share its seed, and get the same answer to the same request.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from selftaught.events import Answered
from selftaught.language_model import ModelSettings, Request
from selftaught.store.event_store import Store
from selftaught.version import __version__

# How a model is asked, not what it answers. Whatever is added to ModelSettings counts until it is
# entered here.
_NOT_IN_ANSWERS = (
    "timeout_s", "concurrency", "requests_per_minute", "tokens_per_minute", "input_price",
    "output_price",
)  # fmt: skip

Found = tuple[Answered, tuple[str, ...]]


class AnswerCache:
    """Names answers for later runs, and finds those of earlier ones. Thread-safe.

    Args:
        store: whose runs are looked through, this run included; None for a cache of nothing.
        identity: of the model, as `model_identity` makes it; empty where no answer may be reused.
        reads: whether answers are looked up; they are named for later runs in any case.
    """

    def __init__(self, store: Store | None, *, identity: str, reads: bool) -> None:
        self._store = store
        self._identity = identity
        self._reads = reads and bool(identity) and store is not None
        self._answers: dict[str, Answered] = {}
        self._claims: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        if self._reads and store is not None:
            for row in store.runs():
                for _, _, event in store.events(row.id, ("answered",)):
                    if isinstance(event, Answered):
                        self.add(event)

    def key(self, request: Request, seed: int, occurrence: int) -> str:
        """Return the name under which an answer to a request may be reused."""
        if not self._identity:
            return ""
        parts = [
            self._identity, request.content_hash, request.n_responses, seed, occurrence,
        ]  # fmt: skip
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:24]

    @contextmanager
    def claimed(self, key: str) -> Iterator[Found | None]:
        """Give the answer under a key, or None to the one caller at a time who may get it.

        Who asks for the same meanwhile waits, and then finds what was added.
        """
        if not self._reads:
            yield None
            return
        with self._lock:
            claim = self._claims.setdefault(key, threading.Lock())
        with claim:
            yield self._found(key)

    def add(self, event: Answered) -> None:
        """Take up an answer that is recorded; the first under a key stays."""
        if self._reads and event.reuse_key:
            with self._lock:
                self._answers.setdefault(event.reuse_key, event)

    def _found(self, key: str) -> Found | None:
        with self._lock:
            event = self._answers.get(key)
        if event is None or self._store is None:
            return None
        return event, tuple(map(self._store.text, event.texts))


NO_CACHE = AnswerCache(None, identity="", reads=False)


def model_identity(
    name: str, *, url: str | None, settings: ModelSettings, is_language_model: bool
) -> str:
    """Return a hash of all that a model's answers depend on beside the request and its place.

    Args:
        name: as after `--model`.
        url: the endpoint's address without credentials.
        settings: how it is asked; what changes no answer is left out.
        is_language_model: the mutation proposer's answers are those of one version of it.
    """
    asked = {
        field: value
        for field, value in msgspec.structs.asdict(settings).items()
        if field not in _NOT_IN_ANSWERS
    }
    version = None if is_language_model else __version__
    return hashlib.sha256(msgspec.json.encode([name, url, asked, version])).hexdigest()
