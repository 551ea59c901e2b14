"""What a run asked and was answered, out of a store or a file of exchanges.

A file of exchanges is JSON lines: a `Header`, then one `Exchange` a line. docs/reference/
exchange-file.md describes it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from selftaught.errors import ModelError, UsageError
from selftaught.events import Answered, Rejected
from selftaught.language_model import Request
from selftaught.redaction import redacted_data
from selftaught.store.event_store import RunRow, Store, text_hash

FORMAT = "selftaught-exchanges"
VERSION = 1

T = TypeVar("T")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording is of.

    Attributes:
        format, version: FORMAT and VERSION.
        run: the run's id in its store.
        model: as after `--model`; of a replay, the model that answered in the first place.
        is_language_model: False for the mutation proposer.
        status, reason: how the run ended.
        exchanges: how many lines follow.
        config: the run's configuration, with the hashes of improvers in place of their sources.
        config_hash: of `config`.
    """

    format: str = FORMAT
    version: int = VERSION
    run: str
    model: str
    is_language_model: bool
    status: str = "done"
    reason: str = ""
    exchanges: int
    config: dict[str, Any]
    config_hash: str


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request with its answer, or with the reason why the model did not take it.

    Attributes:
        job, content_hash, occurrence: what it is found by; see `selftaught.events.Answered`.
        n_responses: how many were asked for: the number of `texts`, unless it was rejected.
        rejected: the reason, as the improver was told; None where it was answered.
        model: who answered.
        prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, dollars, seconds,
            attempts: what it cost when it was live.
        truncated: indices of responses that were cut at the output limit.
    """

    job: str
    content_hash: str
    occurrence: int
    expertise: str
    message: str
    temperature: float
    n_responses: int
    texts: tuple[str, ...] = ()
    rejected: str | None = None
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float | None = None
    truncated: tuple[int, ...] = ()
    seconds: float = 0.0
    attempts: int = 1

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is found by."""
        return self.job, self.content_hash, self.occurrence

    @property
    def request(self) -> Request:
        """What was asked."""
        return Request(
            expertise=self.expertise,
            message=self.message,
            n_responses=self.n_responses,
            temperature=self.temperature,
        )


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """All exchanges of a run, by what they are found by, in the order of the record."""

    header: Header
    exchanges: Mapping[tuple[str, str, int], Exchange]


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration with the hashes of improvers in place of their sources."""
    named = [[name, text_hash(source)] for name, source in config.get("improvers", ())]
    return {**config, "improvers": named}


def recording_of(store: Store, run: str) -> Recording:
    """Read the exchanges of a run; of two under one key the later counts, as on resuming.

    Args:
        store: where it is.
        run: its id, in full.

    Raises:
        ModelError: it holds none.
        StoreError: no such run, or it cannot be read.
    """
    texts: dict[str, str] = {}

    def text(name: str) -> str:
        if name not in texts:
            texts[name] = store.text(name)
        return texts[name]

    found: dict[tuple[str, str, int], Exchange] = {}
    for _, _, event in store.events(run, ("answered", "rejected")):
        if isinstance(event, Answered | Rejected):
            exchange = _exchange(event, text)
            found[exchange.key] = exchange
    if not found:
        raise ModelError(f"Run {run} asked its model nothing, so there is nothing to repeat.")
    row = store.run(run)
    return Recording(header=_header(row, len(found)), exchanges=found)


def write_recording(recording: Recording, out: IO[bytes]) -> None:
    """Write a file of exchanges."""
    out.write(msgspec.json.encode(recording.header) + b"\n")
    for exchange in recording.exchanges.values():
        out.write(msgspec.json.encode(exchange) + b"\n")


def read_recording(path: str) -> Recording:
    """Read a file of exchanges.

    Raises:
        UsageError: there is no such file.
        ModelError: it is none, was changed, or ends early; with the line.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"The file of exchanges {path!r} cannot be read ({error.strerror}): `selftaught "
            "record RUN FILE.jsonl` writes one."
        ) from error
    lines = raw.split(b"\n")
    header = _decoded(lines[0], Header, path, 1)
    _check_header(header, path)
    found: dict[tuple[str, str, int], Exchange] = {}
    for number, line in enumerate(lines[1:-1], start=2):
        exchange = _decoded(line, Exchange, path, number)
        _check_exchange(exchange, path, number)
        if exchange.key in found:
            raise _damaged(path, number, "holds an exchange that an earlier line holds too")
        found[exchange.key] = exchange
    if lines[-1] or len(found) < header.exchanges:
        raise ModelError(
            f"The file of exchanges {path!r} is cut off: it holds {len(found)} whole exchanges "
            f"of {header.exchanges}. Copy it again, or record it anew."
        )
    if len(found) > header.exchanges:
        raise _damaged(path, header.exchanges + 2, "stands behind the last exchange")
    return Recording(header=header, exchanges=found)


def _exchange(event: Answered | Rejected, text: Callable[[str], str]) -> Exchange:
    fields: dict[str, Any] = {
        "expertise": text(event.expertise),
        "message": text(event.message),
        "job": event.job,
        "occurrence": event.occurrence,
        "temperature": event.temperature,
        "model": event.model,
    }
    if isinstance(event, Rejected):
        fields |= {"n_responses": event.n_responses, "rejected": event.reason}
    else:
        costs = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens",
                 "dollars", "truncated", "seconds", "attempts")  # fmt: skip
        fields |= {name: getattr(event, name) for name in costs}
        fields |= {"texts": tuple(map(text, event.texts)), "n_responses": len(event.texts)}
    # A store from before secrets were taken out: what is replayed asks without them too.
    fields = redacted_data(fields)
    exchange = msgspec.convert({**fields, "content_hash": ""}, Exchange)
    return msgspec.structs.replace(exchange, content_hash=exchange.request.content_hash)


def _header(row: RunRow, exchanges: int) -> Header:
    config = redacted_data(settings_of(row.config))
    model = str(config.get("replay_of") or config.get("model", ""))
    return Header(
        run=row.id,
        model=model,
        is_language_model=not model.startswith("mutation"),
        status=row.status,
        reason=row.reason,
        exchanges=exchanges,
        config=config,
        config_hash=_config_hash(config),
    )


def _config_hash(config: Mapping[str, Any]) -> str:
    body = json.dumps(config, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _decoded(line: bytes, kind: type[T], path: str, number: int) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "header of a file of exchanges" if kind is Header else "exchange"
        raise _damaged(path, number, f"is no {what} ({error})") from error


def _check_header(header: Header, path: str) -> None:
    if header.format != FORMAT:
        raise _damaged(path, 1, f"names the format {header.format!r:.60}, not {FORMAT!r}")
    if header.version > VERSION:
        raise ModelError(
            f"The file of exchanges {path!r} has version {header.version}, and this version of "
            f"selftaught reads {VERSION}: update selftaught."
        )
    if _config_hash(header.config) != header.config_hash:
        raise _damaged(path, 1, "was changed: its config is not that of its config_hash")


def _check_exchange(exchange: Exchange, path: str, number: int) -> None:
    if exchange.request.content_hash != exchange.content_hash:
        raise _damaged(path, number, "was changed: its prompt is not that of its content_hash")
    if exchange.rejected is None and len(exchange.texts) != exchange.n_responses:
        raise _damaged(path, number, f"holds {len(exchange.texts)} texts of {exchange.n_responses}")


def _damaged(path: str, number: int, what: str) -> ModelError:
    return ModelError(
        f"Line {number} of the file of exchanges {path!r} {what}. Record the file anew, or go "
        "back to a whole copy."
    )


def jobs_of(recording: Recording) -> dict[str, list[Exchange]]:
    """Return the exchanges by the job that they belong to."""
    jobs: dict[str, list[Exchange]] = {}
    for exchange in recording.exchanges.values():
        jobs.setdefault(exchange.job, []).append(exchange)
    return jobs
