"""Secrets out of everything that is written: one function, `redacted`, for every way out.

A secret is found by value, where this process knows it, and by pattern, where it looks like the
key of a known kind. What is known is kept for the whole process: a key may turn up in any error,
answer or file, whoever loaded it.
"""

import base64
import json
import re
import threading
from collections.abc import Mapping
from typing import Any, TextIO
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit, urlunsplit

MARK = "[redacted]"
# In an address brackets would be read as those of an IPv6 host.
URL_MARK = "redacted"
MIN_CHARS = 8
# The core of a value inside longer base64; shorter ones would turn up by chance.
_MIN_BASE64_CHARS = 10
# A text that quotes JSON is JSON again in an event, and once more in what `--json` prints.
_ESCAPED_TIMES = 3

# `password`, `not-needed`: looking for it would rewrite innocent programs.
_PLACEHOLDER = re.compile(r"[a-z_. -]{1,20}|[A-Z_. -]{1,20}")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_KEY|SECRET|TOKEN|PASSWORD|PASSWD|PRIVATE_KEY)(?:_(?!FILE$)\w*)?$",
    re.IGNORECASE,
)
_SECRET_PARAMETER = re.compile(r"key|token|secret|sig|pass", re.IGNORECASE)

# Not in the middle of a word; in JSON and in program texts an escape may stand before it.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[abfnrtv])|(?<=\\u[0-9a-fA-F]{4})|(?<=\\x[0-9a-fA-F]{2}))"
# A digit is demanded where words could look alike.
_WITH_DIGIT = r"(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]"
_KEY_KINDS = (
    rf"(?:sk|xai|glpat)-{_WITH_DIGIT}{{16,}}",
    r"gsk_[A-Za-z0-9]{16,}",
    r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])",
    r"gh[oprsu]_[A-Za-z0-9]{16,}",
    r"github_pat_[A-Za-z0-9_]{16,}",
    r"AIza[A-Za-z0-9_-]{16,}",
    r"hf_(?=[A-Za-z]*[0-9])[A-Za-z0-9]{20,}",
    r"xox[abeprs]-[A-Za-z0-9-]{10,}",
)
_KEY = re.compile(f"{_START}(?:{'|'.join(_KEY_KINDS)})")
# Looking for plain strings is thirty times faster than for patterns, and nearly always enough.
_HINTS = (
    "sk-", "xai-", "glpat-", "gsk_", "AKIA", "ASIA", "gho_", "ghp_", "ghr_", "ghs_", "ghu_",
    "github_pat_", "AIza", "hf_", "xox", "-----BEGIN ",
)  # fmt: skip
_BEARER = re.compile(
    rf"({_START}[Bb]earer\s+)(?=[A-Za-z0-9._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{{16,}}"
)
_USER = re.compile(r"(://)[^\s/?#\"'\\<>{}`]+@")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)


class Redactor:
    """Knows secrets and takes them out of texts. Thread-safe."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._forms: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def remember(self, secret: str | None) -> None:
        """Take a value out of every text from now on, in all the forms it may be written in.

        A value shorter than MIN_CHARS, or one plain word, is not taken up.
        """
        secret = (secret or "").strip()
        if len(secret) < MIN_CHARS or _PLACEHOLDER.fullmatch(secret):
            return
        with self._lock:
            if secret in self._known:
                return
            self._known.add(secret)
            forms = {form for known in self._known for form in forms_of(known)}
            # The longest first: a form may begin like another one.
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def remember_environment(self, environment: Mapping[str, str]) -> None:
        """Remember the values of all variables whose names say that they hold a secret."""
        for name, value in environment.items():
            if _SECRET_NAME.search(name):
                self.remember(value)

    def remember_url(self, url: str | None) -> None:
        """Remember the credentials in an address: user, password, parameters named like a key."""
        try:
            parts = urlsplit(url or "")
        except ValueError:
            return
        user, at, _ = parts.netloc.rpartition("@")
        if at:
            self.remember(unquote(user))
            self.remember(unquote(user.partition(":")[2]) or unquote(user))
        for name, value in parse_qsl(parts.query):
            if _SECRET_PARAMETER.search(name):
                self.remember(value)

    def redacted(self, text: str) -> str:
        """Return the text with a mark in the place of every secret; a second pass changes nothing.

        Works on plain text and on JSON, which stays valid unless a secret ends in a backslash.
        """
        for form in self._forms:
            if form in text:
                text = text.replace(form, MARK)
        if any(hint in text for hint in _HINTS):
            text = _PRIVATE_KEY.sub(MARK, _KEY.sub(MARK, text))
        if "earer" in text:
            text = _BEARER.sub(rf"\g<1>{MARK}", text)
        return _USER.sub(rf"\g<1>{URL_MARK}@", text) if "://" in text else text

    def redacted_data(self, value: Any) -> Any:
        """Return JSON-able data with every string in it redacted."""
        if isinstance(value, str):
            return self.redacted(value)
        if isinstance(value, dict):
            return {self.redacted_data(k): self.redacted_data(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.redacted_data(one) for one in value]
        return value


def forms_of(secret: str) -> set[str]:
    """Return the ways a value may be written: plain, escaped, URL-encoded, hex, base64."""
    raw = secret.encode("utf-8", "surrogatepass")
    forms = {secret, json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    escaped = secret
    for _ in range(_ESCAPED_TIMES):
        escaped = json.dumps(escaped)[1:-1]
        forms.add(escaped)
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        forms |= {encoded, re.sub("%..", lambda found: found[0].lower(), encoded)}
    forms |= {raw.hex(), raw.hex().upper()}
    # Inside longer base64 a value begins at any of three places in a group of three bytes.
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode()
        core = whole[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        if len(core) >= _MIN_BASE64_CHARS:
            forms |= {core, core.replace("+", "-").replace("/", "_"), core.replace("/", "\\/")}
    return forms


def without_credentials(url: str | None) -> str | None:
    """Return an address with marks in the place of its user and of parameters named like a key."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return url
    _, at, host = parts.netloc.rpartition("@")
    query = "&".join(
        f"{name}={URL_MARK}" if _SECRET_PARAMETER.search(name) and value else item
        for item in parts.query.split("&")
        for name, _, value in [item.partition("=")]
    )
    if not at and query == parts.query:
        return url
    netloc = f"{URL_MARK}@{host}" if at else host
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def lacks_credentials(url: str | None) -> bool:
    """Whether an address once held credentials that `without_credentials` took out."""
    return url is not None and (f"://{URL_MARK}@" in url or f"={URL_MARK}" in url)


class Clean:
    """A stream of text in front of another one, which never gets to see a secret."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets."""
        self._stream.write(redacted(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_process = Redactor()
remember = _process.remember
remember_environment = _process.remember_environment
remember_url = _process.remember_url
redacted = _process.redacted
redacted_data = _process.redacted_data
