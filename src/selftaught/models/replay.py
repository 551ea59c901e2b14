"""A model that answers from a recording and from nothing else.

It needs no network and no key. A request that was never recorded ends the run: the recording is of
another computation, and an answer to something else would pass for a result.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from selftaught.errors import ReplayMismatch, RequestRejected
from selftaught.language_model import Answer, ExchangeKey, Request, Usage
from selftaught.models.recording import Exchange, Recording, jobs_of, settings_of
from selftaught.plain_text import shortened

_MOST_DIFF_LINES = 24
_MOST_DIFF_CHARS = 2_000
# Settings that do not change what is asked.
_WITHOUT_EFFECT = (
    "model", "base_url", "model_settings", "replay_of", "cache", "limits", "slots",
    "allow_weak_sandbox", "tasks", "held_out",
)  # fmt: skip


class ReplayModel:
    """Implements `selftaught.language_model.LanguageModel` over a recording.

    Thread safety: it holds nothing that changes.
    Determinism: an answer depends on the job, the request and the occurrence alone.

    Args:
        recording: what was asked and answered.
        name: as after `--model`.
        config: of the run that asks, to tell where it differs from the recorded one.
    """

    def __init__(
        self, recording: Recording, *, name: str, config: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.is_language_model = recording.header.is_language_model
        self._recording = recording
        self._jobs = jobs_of(recording)
        self._config = None if config is None else settings_of(config)

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return the recorded responses.

        Raises:
            RequestRejected: the model did not take this request when it was live.
            ReplayMismatch: no such request was recorded; with the one that is most like it.
        """
        asked = ExchangeKey.parse(key)
        job = key if asked is None else asked.job
        found = self._recording.exchanges.get((job, request.content_hash, occurrence))
        if found is None or found.n_responses != request.n_responses:
            raise ReplayMismatch(self._mismatch(job, request, occurrence))
        if found.rejected is not None:
            raise RequestRejected(found.rejected)
        return Answer(
            texts=found.texts,
            usage=Usage(
                prompt_tokens=found.prompt_tokens,
                completion_tokens=found.completion_tokens,
                cached_tokens=found.cached_tokens,
                reasoning_tokens=found.reasoning_tokens,
                dollars=found.dollars,
            ),
            truncated=found.truncated,
            model=found.model,
            attempts=found.attempts,
            source="replay",
        )

    def _mismatch(self, job: str, request: Request, occurrence: int) -> str:
        header = self._recording.header
        parts = [
            f"{self.name} holds no answer to a request of job {job!r}.",
            self._nearest(job, request, occurrence),
        ]
        if header.status != "done":
            reason = f" ({header.reason})" if header.reason else ""
            parts.append(
                f"The recorded run {header.run} ended early, as {header.status}{reason}, and its "
                "answers end there."
            )
        changes = [] if self._config is None else differences(header.config, self._config)
        if changes:
            parts.append(f"Settings that differ from the recorded run: {'; '.join(changes)}.")
        else:
            parts.append(
                "Check that tasks, improvers, options and the version of selftaught are those of "
                "the recorded run, and that its programs do not depend on the clock."
            )
        return "\n".join(part for part in parts if part)

    def _nearest(self, job: str, request: Request, occurrence: int) -> str:
        of_job = self._jobs.get(job)
        if not of_job:
            (like,) = difflib.get_close_matches(job, self._jobs, n=1, cutoff=0.0) or [""]
            return f"It holds no request of that job; the one named most like it is {like!r}."
        same = [one for one in of_job if one.content_hash == request.content_hash]
        if same:
            told = ", ".join(f"{one.n_responses} from number {one.occurrence + 1}" for one in same)
            return (
                f"It holds this very request for other responses: {told}. Asked for are "
                f"{request.n_responses} from number {occurrence + 1}."
            )
        near = max(of_job, key=lambda one: _likeness(one, request))
        if near.temperature != request.temperature:
            warmth = f" (at temperature {near.temperature:g}, asked at {request.temperature:g})"
        else:
            warmth = ""
        return f"The recorded request of this job most like it{warmth}:\n{_diff(near, request)}"


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words which settings of two runs differ, those without effect left out."""
    before, after = _flat(recorded), _flat(now)
    return [
        f"{name} was {before.get(name, 'not set')}, is {after.get(name, 'not set')}"
        for name in dict.fromkeys([*before, *after])
        if name.partition(".")[0] not in _WITHOUT_EFFECT and before.get(name) != after.get(name)
    ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif name == "improvers":
            flat |= {f"improver {given}": text for given, text in value}
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _likeness(one: Exchange, request: Request) -> float:
    lines = difflib.SequenceMatcher(None, _lines(one.request), _lines(request), autojunk=False)
    return lines.ratio()


def _diff(one: Exchange, request: Request) -> str:
    lines = list(
        difflib.unified_diff(
            _lines(one.request), _lines(request), "recorded", "asked now", n=1, lineterm=""
        )
    )
    more = len(lines) - _MOST_DIFF_LINES
    if more > 0:
        lines = [*lines[:_MOST_DIFF_LINES], f"[… {more:,} lines cut …]"]
    return shortened("\n".join(lines), _MOST_DIFF_CHARS)


def _lines(request: Request) -> list[str]:
    return [*request.expertise.splitlines(), *request.message.splitlines()]
