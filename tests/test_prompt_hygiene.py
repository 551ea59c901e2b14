"""Texts of programs and models are data: cut with a mark, harmless on a terminal."""

import io
import json
import re
from typing import Any

import msgspec
import pytest
from rich.console import Console

from selftaught.budget import Account, Budget
from selftaught.cli import results, screen
from selftaught.language_model import Answer, Request
from selftaught.plain_text import shortened, visible
from selftaught.pool import ImproveJob
from selftaught.pools import session as sessions
from selftaught.pools.session import MAX_EXPERTISE_CHARS, MAX_PROMPT_CHARS, Session
from selftaught.redaction import Clean
from selftaught.solution import MAX_SOURCE_CHARS, Solution
from selftaught.utility import (
    FEEDBACK_CHARS,
    Failed,
    InvalidAnswer,
    Outcome,
    Score,
    Scored,
    scored,
)

CUT = re.compile(r"\n\[… ([0-9,]+) characters cut …\]\n")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r[bold]ok[/bold] [/red]"


def test_a_short_text_is_not_cut() -> None:
    assert shortened("", 0) == ""
    assert shortened("abc", 3) == "abc"


@pytest.mark.parametrize("keep_end", [False, True])
@pytest.mark.parametrize(
    ("chars", "most"), [(101, 100), (5_000, 100), (10**6, 400), (10_040, 10_039)]
)
def test_a_cut_text_fits_and_says_how_much_is_missing(
    chars: int, most: int, keep_end: bool
) -> None:
    text = "".join(chr(97 + i % 26) for i in range(chars))
    cut = shortened(text, most, keep_end=keep_end)
    assert most - 8 <= len(cut) <= most
    found = CUT.search(cut)
    assert found is not None
    head, tail = cut[: found.start()], cut[found.end() :]
    assert text.startswith(head)
    assert text.endswith(tail)
    assert bool(tail) is keep_end
    assert int(found[1].replace(",", "")) == chars - len(head) - len(tail)


def test_a_limit_without_room_for_the_mark_still_holds() -> None:
    assert shortened("a" * 50, 10) == "a" * 10


def test_hidden_characters_are_written_out() -> None:
    assert visible("tab\tand\nline, é 🙂") == "tab\tand\nline, é 🙂"
    shown = visible(HOSTILE)
    assert shown.startswith(r"\u001b]0;owned\u0007\u001b[2J\u009b31m\u202egnp.exe\u000d")
    document = json.dumps({"a": HOSTILE}, ensure_ascii=False)
    assert json.loads(visible(document)) == {"a": HOSTILE}


class Told:
    """A session whose model and utility are given, and what the model was asked."""

    def __init__(self, answer: str = "ok", outcome: Outcome | None = None) -> None:
        self.asked: list[Request] = []
        self.answer = answer
        initial = Solution("def algorithm(x): return x", "algorithm")
        job = ImproveJob(
            key="j", improver=initial, initial=initial, target="t", utility_text="",
            utility=lambda solution: outcome or Scored(value=1.0),
            initial_outcome=lambda: Scored(value=0.0), worst=-1.0, ask=self._ask,
            account=Account(Budget()), seed=0, on_attempt=lambda attempt: None,
        )  # fmt: skip
        self.session = Session(job)

    def _ask(self, request: Request) -> Answer:
        self.asked.append(request)
        return Answer(texts=(self.answer,) * request.n_responses)

    def serve(self, method: str, **params: Any) -> Any:
        return self.session.serve({"ask": 1, "method": method, "params": params})["value"]

    def ask(self, expertise: str, *messages: str) -> list[str]:
        reply = self.serve("ask", expertise=expertise, messages=list(messages), temperature=0.7)
        return list(reply["texts"])


def test_a_prompt_that_is_too_long_is_cut_in_the_middle_with_a_mark() -> None:
    told = Told()
    told.ask(
        "Expert. " + "e" * MAX_PROMPT_CHARS + " End.", "Begin. " + "m" * MAX_PROMPT_CHARS + " Ask."
    )
    (request,) = told.asked
    assert len(request.expertise) <= MAX_EXPERTISE_CHARS
    assert len(request.expertise) + len(request.message) <= MAX_PROMPT_CHARS
    for text, first, last in (
        (request.expertise, "Expert. ", " End."), (request.message, "Begin. ", " Ask.")
    ):  # fmt: skip
        assert text.startswith(first)
        assert text.endswith(last)
        assert CUT.search(text)


def test_a_prompt_at_the_limit_is_left_alone() -> None:
    told = Told()
    told.ask("", "m" * MAX_PROMPT_CHARS)
    assert told.asked[0].message == "m" * MAX_PROMPT_CHARS


def test_an_answer_that_is_too_long_ends_with_a_mark() -> None:
    (text,) = Told(answer="a" * 3 * MAX_SOURCE_CHARS).ask("e", "m")
    assert len(text) <= 2 * MAX_SOURCE_CHARS
    found = CUT.search(text)
    assert found is not None
    assert found.end() == len(text)
    assert Told(answer="a" * 2 * MAX_SOURCE_CHARS).ask("e", "m") == ["a" * 2 * MAX_SOURCE_CHARS]


def test_many_long_answers_fit_in_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Told(answer="a" * MAX_SOURCE_CHARS * 2).ask("e", *map(str, range(6)))
    assert sum(map(len, texts)) <= sessions.MAX_ANSWER_CHARS
    assert all(CUT.search(text) for text in texts)


@pytest.mark.parametrize(
    "outcome", [Scored(value=1.0, feedback=HOSTILE * 100), Failed(reason=HOSTILE * 100)]
)
def test_feedback_is_short_and_visible(outcome: Outcome) -> None:
    (one,) = Told(outcome=outcome).serve("score", solutions=["def algorithm(x): return 1"])[
        "scores"
    ]
    assert len(one["feedback"]) <= FEEDBACK_CHARS
    assert CUT.search(one["feedback"])
    assert visible(one["feedback"]) == one["feedback"]


def test_feedback_of_a_utility_is_cut_with_a_mark() -> None:
    outcome = scored(Score(value=1.0, feedback="f" * 5_000))
    assert isinstance(outcome, Scored)
    assert len(outcome.feedback) <= FEEDBACK_CHARS
    assert CUT.search(outcome.feedback)
    assert CUT.search(InvalidAnswer("r" * 5_000).outcome.reason)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a colour terminal would be sent by the console for results."""
    sent = io.StringIO()
    console = Console(
        file=sent, force_terminal=True, color_system="standard", width=100, highlight=False
    )
    console.push_render_hook(screen.ShowHidden())
    monkeypatch.setattr(screen, "out", console)
    return sent


CONTROL = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e]|\x1b(?!\\[[0-9;]*m)")


def test_nothing_hidden_reaches_the_terminal(terminal: io.StringIO) -> None:
    screen.out.print(results.diff("a = 1", f"a = {HOSTILE!r} # {HOSTILE}\n(", ("old", "new")))
    screen.out.print(HOSTILE, markup=False)
    screen.out.print(f"[bold]{screen.plain(HOSTILE)}[/bold]")
    table = screen.titled_table("a title")
    table.add_column("what")
    table.add_row(screen.plain(HOSTILE))
    screen.out.print(table)
    screen.print_json({"reason": HOSTILE})
    said = terminal.getvalue()
    assert not CONTROL.search(said)
    assert said.count("\\u001b]0;owned") >= 4
    assert "[bold]ok[/bold]" in said
    document = said.strip().splitlines()[-1]
    assert json.loads(document) == {"reason": HOSTILE}


def test_a_style_of_our_own_still_reaches_the_terminal(terminal: io.StringIO) -> None:
    screen.out.print("[bold]word[/bold]")
    assert terminal.getvalue() == "\x1b[1mword\x1b[0m\n"


def test_both_consoles_write_hidden_characters_out() -> None:
    for console in (screen.out, screen.err):
        assert [type(hook) for hook in console._render_hooks] == [screen.ShowHidden]


def test_a_stream_is_clean_and_still_a_stream() -> None:
    below = io.StringIO()
    stream = Clean(below)
    text = "key sk-abcdefghij0123456789\n"
    assert stream.write(text) == len(text)
    assert below.getvalue() == "key [redacted]\n"
    assert stream.isatty() is False
    stream.flush()


def test_the_reason_of_a_failed_improver_is_shown_as_data(terminal: io.StringIO) -> None:
    from selftaught.algorithm import Round
    from selftaught.meta_utility import Measured

    measured = Measured(improver="i", outcome=Failed(reason=HOSTILE), items=())
    one = Round(
        number=1, improver=Solution("x = 1"), candidate=None, accepted=False, reason=HOSTILE,
        validation=measured, sealed=measured,
    )  # fmt: skip
    screen.out.print(results.rounds_table([one]))
    said = terminal.getvalue()
    assert "owned" in said
    assert not CONTROL.search(said)
    assert msgspec.structs.asdict(one)["reason"] == HOSTILE
