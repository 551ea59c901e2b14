"""Where a key comes from: a variable, a file that a variable names, or the system's keyring.

Every key that is read here is remembered, so that no text that is written shows it.
"""

from collections.abc import Mapping
from pathlib import Path

from selftaught.errors import ModelRefused, UsageError
from selftaught.redaction import remember

KEYRING = "keyring"
KEYRING_SERVICE = "selftaught"


def find_key(variable: str, environment: Mapping[str, str]) -> str | None:
    """Return a key, None where none is set.

    Args:
        variable: its name, such as OPENAI_API_KEY. It holds the key; or the word `keyring`, or
            `keyring:SERVICE`, for the entry of this name in the keyring. Where it is not set,
            the variable with _FILE behind its name may hold the path of a file with the key.
        environment: usually `os.environ`.

    Raises:
        ModelRefused: the file or the keyring does not give the key.
        UsageError: the keyring is asked for and its package is not installed.
    """
    value = environment.get(variable, "").strip()
    path = environment.get(f"{variable}_FILE", "").strip()
    if value == KEYRING or value.startswith(f"{KEYRING}:"):
        value = _from_keyring(value.partition(":")[2] or KEYRING_SERVICE, variable)
    elif not value and path:
        value = _from_file(path, variable)
    remember(value)
    return value or None


def has_key(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether a key is set, or said to be somewhere; nothing is read."""
    return any(environment.get(name, "").strip() for name in (variable, f"{variable}_FILE"))


def _from_file(path: str, variable: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ModelRefused(
            f"The file {path!r}, which {variable}_FILE names, cannot be read ({reason})."
        ) from None
    if not text:
        raise ModelRefused(f"The file {path!r}, which {variable}_FILE names, is empty.")
    return text


def _from_keyring(service: str, variable: str) -> str:
    try:
        import keyring
        import keyring.errors
    except ImportError as error:
        raise UsageError(
            f"{variable} asks for the keyring, which is not installed: "
            "pip install 'selftaught[keyring]'."
        ) from error
    try:
        found = keyring.get_password(service, variable)
    except keyring.errors.KeyringError as error:
        raise ModelRefused(
            f"The keyring of this machine cannot be used ({type(error).__name__}): set {variable} "
            f"to the key, or {variable}_FILE to a file that holds it."
        ) from None
    if not found:
        raise ModelRefused(
            f"The keyring holds no entry {variable!r} of service {service!r}: "
            f"`python -m keyring set {service} {variable}` makes one."
        )
    return found.strip()
