"""Answers used again across runs: the same where everything is the same, and never one for two."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_runs import SMALL, config, result_of

import selftaught as st
from selftaught.events import Answered
from selftaught.history import read_history
from selftaught.language_model import Answer, ModelSettings, Request, Usage
from selftaught.models.answer_cache import NO_CACHE, AnswerCache, model_identity
from selftaught.mutation.proposer import MutationProposer
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Run
from selftaught.store.sqlite import SQLiteStore


class Priced:
    """Answers as the mutation proposer does, for money, and counts what it is asked."""

    name = "priced"
    is_language_model = True

    def __init__(self) -> None:
        self._proposer = MutationProposer()
        self.asked: list[str] = []

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        self.asked.append(key)
        answer = self._proposer.respond(request, seed=seed, occurrence=occurrence, key=key)
        usage = Usage(prompt_tokens=100, completion_tokens=10, dollars=0.5)
        return msgspec.structs.replace(answer, usage=usage)


class Unrepeating(Priced):
    """No two of its answers are the same, as with a hosted model."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        self.asked.append(key)
        texts = [
            f"```python\ndef algorithm(x):\n    return x + {next(self._numbers) % 9}\n```"
            f"\n{next(self._numbers)}"
            for _ in range(request.n_responses)
        ]
        return Answer(texts=tuple(texts))


def run(folder: Path, store: Path, model: Any, *, cache: bool = True, **changes: Any) -> Run:
    settings = config(folder, model=f"custom:{model.name}", cache=cache, **changes)
    return start(settings, str(store), model=model)


def answers(store: Path, run_id: str) -> list[Answered]:
    with SQLiteStore.open(store, writable=False) as opened:
        return [e for _, _, e in opened.events(run_id, ("answered",)) if isinstance(e, Answered)]


def test_a_second_run_with_the_cache_asks_nothing_and_pays_nothing(
    toy_folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "s.db"
    settings = ModelSettings(max_output_tokens=100, input_price=1.0, output_price=1.0)
    first = run(toy_folder, store, Priced(), cache=False, model_settings=settings)
    silent = Priced()
    limits = st.RunLimits(tokens=1, dollars=0.01)
    second = run(toy_folder, store, silent, limits=limits, model_settings=settings)
    assert silent.asked == []
    assert result_of(second) == result_of(first)
    assert second.status == "done"
    spent = second.spent
    assert (spent["live_calls"], spent["tokens"], spent["dollars"]) == (0, 0, 0)
    assert spent["calls_from_cache"] == first.spent["live_calls"] > 0
    events = answers(store, second.id)
    assert {(e.source, e.dollars, e.prompt_tokens) for e in events} == {("cache", 0.0, 100)}
    with SQLiteStore.open(store, writable=False) as opened:
        history = read_history(opened, second.id)
        assert opened.check() == []
    assert history.sources == {"cache": len(events)}
    assert (history.calls, history.dollars) == (0, 0.0)


def test_the_cache_is_off_unless_asked_for(toy_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    first = run(toy_folder, store, Priced(), cache=False)
    again = Priced()
    second = run(toy_folder, store, again, cache=False)
    assert len(again.asked) == second.spent["live_calls"] == first.spent["live_calls"]


def test_a_run_with_another_seed_shares_nothing(toy_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    run(toy_folder, store, Priced())
    other = run(toy_folder, store, Priced(), seed=4)
    alone = run(toy_folder, tmp_path / "alone.db", Priced(), seed=4)
    assert other.spent["live_calls"] == alone.spent["live_calls"]
    # What is shared is shared within the run: improvers at one place that ask the same.
    assert other.spent["calls_from_cache"] == alone.spent["calls_from_cache"] > 0


def test_a_longer_run_pays_for_what_is_new_and_resumes(toy_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    short = run(toy_folder, store, Priced(), rounds=1)
    long = run(toy_folder, store, Priced(), rounds=2)
    assert long.spent["live_calls"] > 0
    assert long.spent["calls_from_cache"] >= short.spent["live_calls"] - 2
    alone = run(toy_folder, tmp_path / "alone.db", Priced(), rounds=2)
    assert result_of(long) == result_of(alone)
    silent = Priced()
    again = resume(long.id, str(store), model=silent)
    assert result_of(again) == result_of(long)
    assert silent.asked == []
    assert again.spent["tokens"] == long.spent["tokens"]


ONE_QUESTION = """
def improve_algorithm(initial_solution, utility, language_model):
    from helpers import extract_code
    answers = language_model.prompt("You improve.", initial_solution, 2)
    return (extract_code(answers) + [None])[0] or initial_solution
"""


def test_places_never_share_an_answer_and_improvers_at_one_place_do(
    toy_folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "s.db"
    twins = (("one", ONE_QUESTION), ("two", ONE_QUESTION + "# not the same text\n"))
    model = Unrepeating()
    settings: dict[str, Any] = {
        "command": "compare", "tasks": (), "held_out": (str(toy_folder),), "improvers": twins,
        "seeds": 3, "repeats": 2, "sealed_repeats": 2, "budget": SMALL,
    }  # fmt: skip
    found = run(toy_folder, store, model, **settings)
    events = answers(store, found.id)
    assert len(events) == 2 * 3 * 2
    assert len({event.content_hash for event in events}) == 1
    by_improver: dict[str, list[tuple[str, ...]]] = {}
    for event in sorted(events, key=lambda event: event.job):
        improver = event.job.split("/")[-3]
        by_improver.setdefault(improver, []).append(event.texts)
    one, two = by_improver.values()
    assert sorted(one) == sorted(two)
    texts = [text for exchange in one for text in exchange]
    assert len(set(texts)) == len(texts) == 3 * 2 * 2
    assert len(model.asked) == 6
    assert found.comparison is not None
    assert found.comparison.differences[0].mean.value == 0.0


REQUEST = Request(expertise="e", message="m", n_responses=2)


def identity(**changes: Any) -> str:
    settings: dict[str, Any] = {
        "name": "openai/x", "url": "http://h/v1", "settings": ModelSettings(),
        "is_language_model": True,
    }  # fmt: skip
    named = {**settings, **changes}
    return model_identity(named.pop("name"), **named)


def test_everything_that_matters_is_in_the_key() -> None:
    def key(request: Request = REQUEST, seed: int = 0, occurrence: int = 0, **model: Any) -> str:
        cache = AnswerCache(None, identity=identity(**model), reads=False)
        return cache.key(request, seed, occurrence)

    def changed(**changes: Any) -> Request:
        return msgspec.structs.replace(REQUEST, **changes)

    keys = [
        key(),
        key(changed(expertise="f")),
        key(changed(message="n")),
        key(changed(temperature=0.1)),
        key(changed(n_responses=3)),
        key(seed=1),
        key(occurrence=2),
        key(name="openai/y"),
        key(url="http://other/v1"),
        key(settings=ModelSettings(max_output_tokens=9)),
        key(settings=ModelSettings(reasoning_effort="low")),
    ]
    assert len(set(keys)) == len(keys)
    patient = ModelSettings(timeout_s=1.0, concurrency=2, requests_per_minute=3, input_price=1.0)
    assert key(settings=patient) == key()


def test_a_cache_of_nothing_names_nothing() -> None:
    assert NO_CACHE.key(REQUEST, 0, 0) == ""
    with NO_CACHE.claimed("") as found:
        assert found is None


def test_who_asks_for_the_same_at_the_same_time_waits(tmp_path: Path) -> None:
    with SQLiteStore.open(tmp_path / "s.db", writable=True) as store:
        run_id = store.new_run({}, "")
        cache = AnswerCache(store, identity="model", reads=True)
        key = cache.key(REQUEST, 0, 0)
        event = Answered(
            job="j", content_hash="c", occurrence=0, expertise="", message="", temperature=0.7,
            texts=(store.put_text("a"), store.put_text("b")), model="x", reuse_key=key,
        )  # fmt: skip
        started = threading.Barrier(8)
        paid = []

        def ask(number: int) -> tuple[str, ...]:
            started.wait()
            with cache.claimed(key) as found:
                if found is not None:
                    return found[1]
                paid.append(number)
                store.append(run_id, event)
                cache.add(event)
                return ("a", "b")

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(ask, range(8))) == {("a", "b")}
        assert len(paid) == 1
        later = AnswerCache(store, identity="model", reads=True)
        with later.claimed(key) as found:
            assert found == (event, ("a", "b"))
        with AnswerCache(store, identity="model", reads=False).claimed(key) as found:
            assert found is None


def test_a_failure_lets_the_next_one_try(tmp_path: Path) -> None:
    with SQLiteStore.open(tmp_path / "s.db", writable=True) as store:
        cache = AnswerCache(store, identity="model", reads=True)
        with pytest.raises(ZeroDivisionError), cache.claimed("k"):
            raise ZeroDivisionError
        with cache.claimed("k") as found:
            assert found is None
