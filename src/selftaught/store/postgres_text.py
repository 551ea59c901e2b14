"""Texts on their way into a Postgres database, and what may be said of the database."""

from urllib.parse import urlsplit

from selftaught.redaction import redacted


def shown_url(url: str) -> str:
    """The address without what a password may be in: user, password and parameters."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def column_bytes(text: str) -> bytes:
    """A text as `texts` has it: redacted, lone surrogates as the three bytes they would be."""
    return redacted(text).encode("utf-8", "surrogatepass")


def said(error: Exception) -> str:
    """What psycopg says of an error, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
