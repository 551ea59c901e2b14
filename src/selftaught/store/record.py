"""Events and texts in the form that the database holds.

An event is JSON. A program may put lone surrogates, which UTF-8 cannot carry, into any message;
in events they are written out as `\\udXXX`, readable to every tool. A text must come back exactly,
so one that holds lone surrogates is kept as bytes instead.

No secret is written: whatever passes here is redacted. Texts are redacted where they enter a run
already, so that their hashes hold; one that was not would be found by `check`.
"""

import json
import re

import msgspec

from selftaught.errors import StoreError
from selftaught.events import Answered, AnyEvent, Rejected, RoundEnded, kind
from selftaught.redaction import redacted, redacted_data

# The end of the year 9999: no calendar has a date for what lies beyond.
LAST_TIME = 253_402_300_799.0
_SURROGATE = re.compile("[\ud800-\udfff]")
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)


def encode_event(event: AnyEvent) -> tuple[str, AnyEvent]:
    """Return the JSON of an event, and the event as it will be read back.

    Raises:
        StoreError: it could not be read again, most likely for a number that is not finite, for
            which JSON has no word.
    """
    body = _body(event)
    if redacted(body.decode()) != body.decode():
        event = without_secrets(event)
        body = _body(event)
    try:
        # Reading back costs half a microsecond. An unreadable event would cost the run.
        stored: AnyEvent = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"An event {kind(event)!r} cannot be recorded, since it could not be read again "
            f"({error}): every number in it must be finite. It was: {event!r:.300}"
        ) from error
    return body.decode(), stored


def without_secrets(event: AnyEvent) -> AnyEvent:
    """Return an event with every text in it redacted."""
    clean: AnyEvent = msgspec.convert(redacted_data(msgspec.to_builtins(event)), AnyEvent)
    return clean


def _body(event: AnyEvent) -> bytes:
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:
        return _json_of(event, allow_nan=True).encode()
    except TypeError as error:
        raise StoreError(
            f"An event {kind(event)!r} cannot be recorded as JSON ({error}): {event!r:.300}"
        ) from error


def decode_event(body: str | bytes, run: str, seq: int) -> AnyEvent:
    """Return the event of a JSON body.

    Raises:
        StoreError: the body is of no known kind, or lacks a field.
    """
    try:
        event: AnyEvent = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(
            f"Event {seq} of run {run!r} cannot be read ({error}): it is damaged, or was written "
            "by another version of selftaught; read the run with that version."
        ) from error
    return event


def encode_config(config: dict[str, object]) -> str:
    """Return the JSON of a run's configuration.

    Raises:
        StoreError: it holds something that is no JSON.
    """
    try:
        return _json_of(redacted_data(config), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"The configuration of a run must be JSON: strings, finite numbers, true, false, "
            f"null, lists and objects ({error})."
        ) from error


def decode_config(text: str | bytes, run: str) -> dict[str, object]:
    """Return the configuration of a run.

    Raises:
        StoreError: it was damaged.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise StoreError(
            f"The configuration of run {run!r} cannot be read: its store is damaged, and "
            "`selftaught store repair` saves the rest."
        )
    return config


def is_time(at: float) -> bool:
    """Whether a number can be a time of the record: seconds since the epoch that have a date."""
    return 0 <= at <= LAST_TIME


def printable(text: str) -> str:
    """Write the lone surrogates of a text out as `\\udXXX`, as events have them."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def text_to_column(text: str) -> str | bytes:
    """A text as the database takes it: redacted, and bytes where it holds lone surrogates."""
    return exact_column(redacted(text))


def exact_column(text: str) -> str | bytes:
    """The same for a text that was redacted where it was recorded."""
    return text.encode("utf-8", "surrogatepass") if _SURROGATE.search(text) else text


def without_nul(text: str) -> str:
    """A text as a Postgres column takes it: lone surrogates and NUL written out."""
    return printable(text).replace("\0", "\\u0000")


def text_from_column(value: str | bytes) -> str:
    """The text that `text_to_column` was given."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def referenced_texts(event: AnyEvent) -> tuple[str, ...]:
    """The hashes of the texts that an event cannot be understood without."""
    if isinstance(event, Answered):
        return (event.expertise, event.message, *event.texts)
    if isinstance(event, Rejected):
        return (event.expertise, event.message)
    if isinstance(event, RoundEnded):
        return (event.improver,) if event.candidate is None else (event.candidate, event.improver)
    return ()


def _json_of(value: object, *, allow_nan: bool) -> str:
    text = json.dumps(
        msgspec.to_builtins(value), ensure_ascii=False, allow_nan=allow_nan, separators=(",", ":")
    )
    # Two backslashes: the JSON string then holds one, followed by plain characters.
    return _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)
