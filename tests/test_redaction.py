"""What is taken out of texts, and what is left alone."""

import json
import urllib.parse

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from selftaught.events import Attempted, Evaluated
from selftaught.redaction import (
    MARK,
    Redactor,
    forms_of,
    lacks_credentials,
    redacted,
    without_credentials,
)
from selftaught.solution import Solution
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal
from selftaught.store.sqlite import SQLiteStore
from selftaught.utility import Failed

KEYS = [
    "sk-abcdefghij0123456789",
    "sk-ant-api03-abcdefghij_0123456789-AA",
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0123456789_abcdef",
    "AIzaSyA-abcdefghijklmnopqrstuvwxyz01234",
    "gsk_abcdefghijklmnopqrstuvwx",
    "xai-abcdefghij0123456789",
    "hf_abcdefghijklmnopqrst01234",
    "xoxb-1234567890-abcdef",
    "glpat-abcdefghij0123456789",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["{}", "key={},", "'{}'", "a\\n{}\\n", "\\u003d{}", "\n{}\n"])
def test_keys_of_known_kinds_are_found_wherever_they_stand(key: str, around: str) -> None:
    text = redacted(around.format(key))
    assert text == around.format(MARK)
    assert redacted(text) == text


def test_headers_addresses_and_private_keys_are_found() -> None:
    for text, clean in (
        ("Authorization: Bearer abcdefgh12345678ij", f"Authorization: Bearer {MARK}"),
        ("http://me:pw@host:8/v1", "http://redacted@host:8/v1"),
        ("postgresql://a:b%40c@h/db?x=1", "postgresql://redacted@h/db?x=1"),
        ("-----BEGIN PRIVATE KEY-----\nMIIab+/\n-----END PRIVATE KEY-----\n", f"{MARK}\n"),
        ('{"pem":"-----BEGIN RSA PRIVATE KEY-----\\nMIIab\\n"}', f'{{"pem":"{MARK}"}}'),
    ):
        assert redacted(text) == clean
        assert redacted(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "risk-averse task-specific-implementation-details-20",
        "sk-learn-compatible-estimators",
        "The bearer of responsibilities",
        "Bearer authentication_scheme",
        "f'postgres://{user}:{password}@{host}'",
        "def f(a):\n    return a @ a  # see https://arxiv.org/abs/2310.02304",
        "AKIA and ghp_ and AIza are beginnings",
        "mail me@example.org",
    ],
)
def test_innocent_texts_stay_as_they_are(text: str) -> None:
    assert redacted(text) == text


def test_every_program_that_is_shipped_stays_as_it_is() -> None:
    from importlib.resources import files

    for folder in ("improvers", "tasks", "mutation"):
        stack = [files("selftaught") / folder]
        while stack:
            entry = stack.pop()
            if entry.is_dir():
                stack.extend(entry.iterdir())
            elif entry.name.endswith((".py", ".md", ".toml")):
                text = entry.read_text(encoding="utf-8")
                assert redacted(text) == text, entry.name


PRINTABLE = some.characters(min_codepoint=33, max_codepoint=126)


@settings(max_examples=60, deadline=None)
@given(some.text(PRINTABLE, min_size=7, max_size=40))
def test_a_remembered_value_is_found_in_every_form(text: str) -> None:
    # A digit makes sure that it is no plain word.
    secret = f"{text}7"
    redactor = Redactor()
    redactor.remember(secret)
    for form in (secret, json.dumps(secret), urllib.parse.quote(secret, safe=""), repr(secret)):
        clean = redactor.redacted(f"< {form} >")
        assert MARK in clean
        assert secret not in clean
        assert redactor.redacted(clean) == clean


@pytest.mark.parametrize("value", ["", "short1", "password", "not-needed", "EMPTY", "  \n"])
def test_what_is_no_secret_is_not_looked_for(value: str) -> None:
    redactor = Redactor()
    redactor.remember(value)
    text = f"my {value} is not_needed, password or EMPTY: short1"
    assert redactor.redacted(text) == text


def test_variables_are_remembered_by_their_names() -> None:
    redactor = Redactor()
    redactor.remember_environment(
        {
            "OPENAI_API_KEY": "first-value-1",
            "GITHUB_TOKEN": "second-value-2",
            "AWS_SECRET_ACCESS_KEY": "third-value-3",
            "PGPASSWORD_FILE": "/a/path/number/4",
            "DB_PASSWORD": "fifth-value-5",
            "TOKENIZERS_PARALLELISM": "not-secret-6",
            "OPENAI_API_KEY_FILE": "/a/path/number/7",
        }
    )
    text = "first-value-1 second-value-2 third-value-3 fifth-value-5"
    assert redactor.redacted(text) == " ".join([MARK] * 4)
    for kept in ("/a/path/number/4", "not-secret-6", "/a/path/number/7"):
        assert redactor.redacted(kept) == kept


def test_credentials_leave_an_address_and_are_remembered() -> None:
    redactor = Redactor()
    url = "https://me:p%40ssw0rd-9@h:8/v1?version=3&api-key=abc-123-def"
    redactor.remember_url(url)
    assert redactor.redacted("p@ssw0rd-9 abc-123-def") == f"{MARK} {MARK}"
    clean = without_credentials(url)
    assert clean == "https://redacted@h:8/v1?version=3&api-key=redacted"
    assert lacks_credentials(clean)
    assert not lacks_credentials("http://h/v1?version=3")
    for plain in (None, "http://127.0.0.1:8000/v1", "http://[::1]:8/v1", "http://[broken"):
        assert without_credentials(plain) == plain


def test_base64_is_found_at_every_offset() -> None:
    import base64

    secret = "a-known-value-77"
    redactor = Redactor()
    redactor.remember(secret)
    for before in ("", "u", "us", "usr", "user:"):
        for after in ("", "x", "xy"):
            encoded = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
            assert MARK in redactor.redacted(encoded)
    assert all(len(form) >= 8 for form in forms_of(secret))


def test_the_hash_of_a_program_is_that_of_what_is_stored(tmp_path: object) -> None:
    solution = Solution.admit(f"KEY = '{KEYS[0]}'\n", "algorithm")
    assert solution.source == f"KEY = '{MARK}'\n"
    assert solution.hash == text_hash(solution.source)


def test_the_store_and_its_watchers_get_no_secret(tmp_path: object) -> None:
    seen: list[object] = []
    with SQLiteStore.open(f"{tmp_path}/s.db", writable=True) as store:
        run = store.new_run({"base_url": f"http://u:{KEYS[0]}@h"}, f"selftaught run {KEYS[1]}")
        journal = Journal(store, run, on_event=seen.append)
        journal.record(Attempted(job="j", what="open", detail=f"open {KEYS[2]}"))
        journal.record(
            Evaluated(task="t", solution="s", split="val", repeat=0,
                      outcome=Failed(reason=f"\ud800 says {KEYS[3]}"))
        )  # fmt: skip
        name = store.put_text(f"a text with {KEYS[4]}")
        assert store.text(name) == f"a text with {MARK}"
        # Texts are redacted before they get here; one that was not is told of.
        assert store.check() == [
            f"The text {name!r} is not the text that was stored under this hash."
        ]
        (row,) = store.runs()
        assert row.command == f"selftaught run {MARK}"
        assert row.config == {"base_url": "http://redacted@h"}
        told = [event for _, _, event in store.events(run)]
    assert msgspec.structs.replace(seen[0], job="j") == told[0]  # type: ignore[type-var]
    for key in KEYS:
        assert key not in repr(seen)
        assert key not in repr(told)
