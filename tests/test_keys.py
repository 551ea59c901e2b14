"""Where a key may lie: a variable, a file, the keyring."""

import sys
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import ModelRefused, UsageError
from selftaught.models.keys import find_key, has_key
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.models.resolve import resolve_model
from selftaught.redaction import MARK, redacted

NAME = "OPENAI_API_KEY"
KEY = "a-key-for-these-tests-551"


def test_a_variable_holds_the_key_and_comes_first(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("another-one-552\n")
    environment = {NAME: f" {KEY}\n", f"{NAME}_FILE": str(tmp_path / "key")}
    assert find_key(NAME, environment) == KEY
    assert redacted(f"<{KEY}>") == f"<{MARK}>"


def test_a_variable_names_a_file_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("  in-a-file-553\n")
    environment = {f"{NAME}_FILE": str(tmp_path / "key")}
    assert find_key(NAME, environment) == "in-a-file-553"
    assert redacted("in-a-file-553") == MARK
    assert has_key(NAME, environment)
    model = resolve_model("openai/x", base_url=None, environment=environment)
    assert isinstance(model, OpenAICompatibleModel)
    model.close()


@pytest.mark.parametrize("environment", [{}, {NAME: " "}, {f"{NAME}_FILE": ""}])
def test_no_key_is_no_error(environment: dict[str, str]) -> None:
    assert find_key(NAME, environment) is None
    assert not has_key(NAME, environment)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read \\(No such file"), (b"", "is empty"), (b"\xff\xfe", "it is no text")],
)
def test_a_file_without_a_key_is_told_by_its_path(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelRefused, match=message) as failure:
        find_key(NAME, {f"{NAME}_FILE": str(path)})
    assert f"{NAME}_FILE" in str(failure.value)
    assert str(path) in str(failure.value)


def fake_backend(entries: dict[tuple[str, str], str]) -> Any:
    from keyring.backend import KeyringBackend

    class Fake(KeyringBackend):
        priority = 1.0  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            return entries.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            raise AssertionError("nothing is written")

    return Fake()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a backend in the place of the system's for one test."""
    import keyring.core

    def use(chosen: Any) -> None:
        monkeypatch.setattr(keyring.core, "_keyring_backend", chosen)

    return use


def test_the_keyring_is_asked_where_the_variable_says_so(backend: Any) -> None:
    backend(fake_backend({("selftaught", NAME): "in-a-ring-554", ("work", NAME): "in-a-ring-555"}))
    assert find_key(NAME, {NAME: "keyring"}) == "in-a-ring-554"
    assert find_key(NAME, {NAME: "keyring:work"}) == "in-a-ring-555"
    assert redacted("in-a-ring-554 in-a-ring-555") == f"{MARK} {MARK}"
    with pytest.raises(ModelRefused, match=r"python -m keyring set home OPENAI_API_KEY"):
        find_key(NAME, {NAME: "keyring:home"})


def test_a_machine_without_a_keyring_says_what_else_to_do(backend: Any) -> None:
    from keyring.backends.fail import Keyring

    backend(Keyring())
    with pytest.raises(ModelRefused) as failure:
        find_key(NAME, {NAME: "keyring"})
    said = str(failure.value)
    assert "The keyring of this machine cannot be used" in said
    assert f"set {NAME} to the key, or {NAME}_FILE" in said


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(UsageError, match=r"pip install 'selftaught\[keyring\]'"):
        find_key(NAME, {NAME: "keyring"})
