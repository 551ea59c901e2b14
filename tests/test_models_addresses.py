"""Where requests go and what they carry: base URLs, proxies, redirects, keys, accounts."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from test_models_asking import KEY, ask, made

from selftaught.errors import ModelRefused, ModelUnreachable, UsageError
from selftaught.language_model import Request
from selftaught.models.anthropic_messages import AnthropicModel
from selftaught.models.google_generate import GoogleModel
from selftaught.models.hosted import HostedModel
from selftaught.models.http_endpoint import address
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.models.resolve import resolve_model

# A body that is an answer in each of the three protocols.
ANSWER = {
    "choices": [{"message": {"content": "x"}}],
    "content": [{"type": "text", "text": "x"}],
    "candidates": [{"content": {"parts": [{"text": "x"}]}}],
}
MODELS = (OpenAICompatibleModel, AnthropicModel, GoogleModel)


class Seen(list[tuple[str, dict[str, str]]]):
    """The requests that a server got, and where it is."""

    url = ""


@contextmanager
def server(redirects: Sequence[tuple[int, str]] = (), body_of_redirects: int = 0) -> Iterator[Seen]:
    """Answer every request, after the redirects: their statuses and where they lead.

    A body of a redirect is announced and never sent.
    """
    seen = Seen()
    left = list(redirects)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            raw = b"" if left else json.dumps(ANSWER).encode()
            status, location = left.pop(0) if left else (200, "")
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            announced = body_of_redirects if location else len(raw)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        seen.url = f"http://127.0.0.1:{http.server_address[1]}"
        try:
            yield seen
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        ("https://h:8443//", "https://h:8443/chat/completions"),
        ("http://u:p%40w@h:8/a/b/", "http://u:p%40w@h:8/a/b/chat/completions"),
        ("http://[::1]:8/v1", "http://[::1]:8/v1/chat/completions"),
        ("http://h/v1?api-version=7#top", "http://h/v1/chat/completions?api-version=7"),
    ],
)
def test_a_path_is_put_below_a_base_url(base_url: str, expected: str) -> None:
    assert address(base_url, "/chat/completions") == expected


@pytest.mark.parametrize("model", MODELS)
def test_a_base_url_may_have_a_path_and_a_trailing_slash(model: Any) -> None:
    with server() as seen, made(f"{seen.url}/a b/ü/", model) as asked:
        assert ask(asked) == ["x"]
    ((path, _),) = seen
    assert path.startswith("/a%20b/%C3%BC/")
    assert "//" not in path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tiny", "/v1beta/models/tiny:generateContent"),
        ("models/tiny", "/v1beta/models/tiny:generateContent"),
        ("tunedModels/mine", "/v1beta/tunedModels/mine:generateContent"),
        ("a?b#c", "/v1beta/models/a%3Fb%23c:generateContent"),
    ],
)
def test_a_models_name_is_part_of_the_address_at_google(name: str, path: str) -> None:
    with server() as seen, GoogleModel(name, base_url=seen.url) as model:
        assert ask(model) == ["x"]
    assert seen[0][0] == path


@pytest.mark.parametrize("model", MODELS)
def test_a_redirect_to_another_server_does_not_take_the_key_along(model: Any) -> None:
    sent = {"X-Account": "account-7"}
    with (
        server() as other,
        server([(307, "/again"), (308, f"{other.url}/there")]) as home,
        made(home.url, model, api_key=KEY, headers=sent) as asked,
    ):
        assert ask(asked) == ["x"]
    _, again = home
    assert again[0] == "/again"
    for _, headers in home:
        assert KEY in repr(headers)
        assert headers["x-account"] == "account-7"
    ((path, headers),) = other
    assert path == "/there"
    assert KEY not in repr(headers)
    assert "account-7" not in repr(headers)


def test_a_server_that_redirects_for_ever_is_given_up() -> None:
    with (
        server([(307, "/again")] * 100) as home,
        made(home.url, max_retries=0) as asked,
        pytest.raises(ModelUnreachable, match="from one redirect to the next"),
    ):
        ask(asked)


def test_the_body_of_a_redirect_is_not_read() -> None:
    with (
        server() as other,
        server([(307, f"{other.url}/there")], body_of_redirects=10**12) as home,
        made(home.url, timeout_s=30, max_answer_bytes=1000, max_retries=0) as asked,
    ):
        assert ask(asked) == ["x"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5://me:password-9@127.0.0.1:1"),
        ("ALL_PROXY", "no-scheme://me:password-9@127.0.0.1:1"),
        ("SSL_CERT_FILE", "/no/such/file"),
    ],
)
def test_a_proxy_or_a_certificate_of_no_use_is_said_in_a_sentence(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, value)
    with (
        made("https://127.0.0.1:1/v1", max_retries=0) as asked,
        pytest.raises(UsageError, match=r"ALL_PROXY, SSL_CERT_FILE") as failure,
    ):
        ask(asked)
    assert "password-9" not in str(failure.value)


@pytest.mark.parametrize("url", ["http://a b/v1", "http://-/v1", "http://a\x00b/v1"])
def test_an_address_that_cannot_be_asked_is_said_in_a_sentence(url: str) -> None:
    with pytest.raises((UsageError, ModelUnreachable)), made(url, max_retries=0) as asked:
        ask(asked)


def test_a_proxy_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as proxy:
        for variable in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        for variable in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        with made("http://model.invalid/v1") as asked:
            assert ask(asked) == ["x"]
    assert proxy[0][0] == "http://model.invalid/v1/chat/completions"


def test_a_user_and_a_password_in_the_address_are_sent() -> None:
    with server() as seen:
        url = seen.url.replace("http://", "http://me:secret@")
        with made(url) as asked:
            assert ask(asked) == ["x"]
    assert seen[0][1]["authorization"] == "Basic bWU6c2VjcmV0"


def answered(name: str, url: str, environment: dict[str, str]) -> None:
    model = resolve_model(name, base_url=url, environment=environment)
    assert isinstance(model, HostedModel)
    with model:
        request = Request(expertise="e", message="m")
        assert model.respond(request, seed=0, occurrence=0, key="k").texts == ("x",)


@pytest.mark.parametrize("name", ["openai/x", "anthropic/x", "google/x"])
def test_the_account_to_charge_is_told_to_openai_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "of-the-process")
    with server() as seen:
        answered(name, seen.url, {})
        answered(name, seen.url, {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": " p-2 "})
    (_, bare), (_, told) = seen
    assert not any(header.startswith("openai-") for header in bare)
    accounts = {header: value for header, value in told.items() if header.startswith("openai-")}
    is_openai = name.startswith("openai/")
    expected = {"openai-organization": "org-1", "openai-project": "p-2"}
    assert accounts == (expected if is_openai else {})


def test_an_account_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ModelRefused, match="OPENAI_ORG_ID cannot be sent"):
        answered("openai/x", "http://127.0.0.1:1", {"OPENAI_ORG_ID": "a\nb"})


def test_requests_say_who_asks_and_nothing_of_the_machine() -> None:
    with server() as seen, made(seen.url) as asked:
        ask(asked)
    ((_, headers),) = seen
    assert headers["user-agent"].startswith("selftaught/")
    assert set(headers) == {
        "host", "accept", "accept-encoding", "connection", "user-agent", "content-type",
        "content-length", "idempotency-key",
    }  # fmt: skip
