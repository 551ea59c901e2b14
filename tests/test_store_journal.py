"""The journal: what was recorded is found again, by the run itself and by one that resumes it."""

import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_store_contract import EVERY_KIND, answered, evaluated, paused

from selftaught.errors import StoreError
from selftaught.events import AnyEvent, Asked, Evaluated, Improved
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal
from selftaught.store.sqlite import SQLiteStore
from selftaught.utility import Failed, Outcome, OutOfMemory, Returned, Scored

TEXTS = ("expert", "improve this", "answer one", "answer two")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore.open(tmp_path / "runs.db", writable=True) as store:
        yield store


@pytest.fixture
def run(store: SQLiteStore) -> str:
    return store.new_run({}, "run")


def improved(job: str, outcome: Outcome) -> Improved:
    return Improved(job=job, improver="i", initial="i", target="maxcut", outcome=outcome, calls=3)


def journals(store: SQLiteStore, journal: Journal) -> list[Journal]:
    """The journal that recorded, and the one of a run that resumes it."""
    return [journal, Journal(store, journal.run)]


def test_an_answer_is_found_with_its_texts(store: SQLiteStore, run: str) -> None:
    journal = Journal(store, run)
    journal.record(answered("j1", "c0", 6), TEXTS)
    for one in journals(store, journal):
        assert one.recorded_answer("j1", "c0", 6, 2) == (
            answered("j1", "c0", 6),
            ("answer one", "answer two"),
        )
        for miss in (
            ("j1", "c0", 0, 2), ("j1", "c1", 6, 2), ("j2", "c0", 6, 2), ("j1", "c0", 6, 3),
        ):  # fmt: skip
            assert one.recorded_answer(*miss) is None


def test_a_score_is_found_by_task_split_repeat_and_program(store: SQLiteStore, run: str) -> None:
    journal = Journal(store, run)
    journal.record(evaluated("s1", 0.25, repeat=2))
    for one in journals(store, journal):
        found = one.recorded_evaluation("three_sat", "val", 2, "s1")
        assert found == evaluated("s1", 0.25).outcome
        assert one.recorded_evaluation("three_sat", "val", 1, "s1") is None
        assert one.recorded_evaluation("three_sat", "test", 2, "s1") is None


@pytest.mark.parametrize(
    "outcome",
    [
        Failed(reason="raised"),
        OutOfMemory(reason="512 MB"),
        Scored(value=1.0),
        Scored(value=0.1, values=tuple(i / 7 for i in range(257)), feedback="f" * 2_000),
    ],
)
def test_outcomes_of_every_size_are_found_exactly(
    store: SQLiteStore, run: str, outcome: Outcome
) -> None:
    journal = Journal(store, run)
    journal.record(Evaluated(task="t", solution="s", split="val", repeat=0, outcome=outcome))
    for one in journals(store, journal):
        assert one.recorded_evaluation("t", "val", 0, "s") == outcome


def test_a_message_with_lone_surrogates_is_found_written_out(store: SQLiteStore, run: str) -> None:
    journal = Journal(store, run)
    outcome = Failed(reason="\udfff?")
    journal.record(Evaluated(task="t", solution="s", split="val", repeat=0, outcome=outcome))
    for one in journals(store, journal):
        assert one.recorded_evaluation("t", "val", 0, "s") == Failed(reason="\\udfff?")


def test_an_improvement_is_found_with_the_program_it_returned(store: SQLiteStore, run: str) -> None:
    journal = Journal(store, run)
    journal.record(improved("j1", Returned(source="def algorithm(): ...\n" * 5_000)))
    journal.record(improved("j2", Failed(reason="raised")))
    for one in journals(store, journal):
        found = one.recorded_improvement("j1")
        assert found == improved("j1", Returned(source="def algorithm(): ...\n" * 5_000))
        assert one.recorded_improvement("j2") == improved("j2", Failed(reason="raised"))
        assert one.recorded_improvement("j3") is None


def test_the_latest_record_of_a_key_counts(store: SQLiteStore, run: str) -> None:
    journal = Journal(store, run)
    for value in (0.1, 0.9):
        journal.record(evaluated("s1", value))
        journal.record(answered(dollars=value), TEXTS)
        journal.record(improved("j1", Scored(value=value)))
    for one in journals(store, journal):
        assert one.recorded_evaluation("three_sat", "val", 0, "s1") == evaluated("s1", 0.9).outcome
        answer = one.recorded_answer("r1", "c0", 0, 2)
        assert answer is not None
        assert answer[0].dollars == 0.9
        assert one.recorded_improvement("j1") == improved("j1", Scored(value=0.9))


def test_nothing_of_another_run_is_found(store: SQLiteStore, run: str) -> None:
    Journal(store, run).record(evaluated("s1"))
    other = Journal(store, store.new_run({}, "run"))
    assert other.recorded_evaluation("three_sat", "val", 0, "s1") is None
    assert other.recorded == 0


def test_a_resumed_run_knows_how_many_events_it_had(store: SQLiteStore, run: str) -> None:
    journal = Journal(store, run)
    assert journal.recorded == 0
    for event in EVERY_KIND:
        journal.record(event)
    assert Journal(store, run).recorded == len(EVERY_KIND)


def test_on_event_is_told_of_each_event_once_it_is_recorded(store: SQLiteStore, run: str) -> None:
    told: list[AnyEvent] = []

    def on_event(event: AnyEvent) -> None:
        assert [recorded for _, _, recorded in store.events(run)][len(told)] == event
        told.append(event)

    journal = Journal(store, run, on_event=on_event)
    for event in EVERY_KIND:
        journal.record(event)
    assert told == list(EVERY_KIND)


def test_on_event_is_told_in_the_order_of_the_run_whichever_thread_records(
    store: SQLiteStore, run: str
) -> None:
    told: list[AnyEvent] = []
    journal = Journal(store, run, on_event=told.append)

    def record(thread: int) -> None:
        for i in range(40):
            journal.record(evaluated(f"{thread}.{i}"))
            assert journal.recorded_evaluation("three_sat", "val", 0, f"{thread}.{i}") is not None

    threads = [threading.Thread(target=record, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event for _, _, event in store.events(run)] == told
    assert len(told) == 320


def test_on_event_may_itself_record(store: SQLiteStore, run: str) -> None:
    def on_event(event: AnyEvent) -> None:
        if isinstance(event, Evaluated):
            journal.record(paused())

    journal = Journal(store, run, on_event=on_event)
    journal.record(evaluated())
    assert [event for _, _, event in store.events(run)] == [evaluated(), paused()]


def test_what_the_store_refuses_is_neither_found_nor_told(store: SQLiteStore, run: str) -> None:
    told: list[AnyEvent] = []
    journal = Journal(store, run, on_event=told.append)
    with pytest.raises(StoreError, match="must be finite"):
        journal.record(evaluated("s1", float("nan")))
    assert journal.recorded_evaluation("three_sat", "val", 0, "s1") is None
    assert told == []


def test_a_run_that_does_not_exist_has_no_journal(store: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="There is no run 'r-none'"):
        Journal(store, "r-none")


def test_look_ups_work_on_a_store_open_for_reading(store: SQLiteStore, run: str) -> None:
    Journal(store, run).record(answered(), TEXTS)
    with SQLiteStore.open(store.path, writable=False) as reader:
        journal = Journal(reader, run)
        assert journal.recorded_answer("r1", "c0", 0, 2) is not None
        with pytest.raises(StoreError, match="open for reading only"):
            journal.record(paused())


def test_the_index_holds_no_long_text(store: SQLiteStore, run: str) -> None:
    """Programs and answers of 200,000 characters each cost the index a few hundred bytes."""
    journal = Journal(store, run)
    for i in range(30):
        text = f"{i}" + "x" * 200_000
        journal.record(answered(occurrence=i, texts=(text_hash(text),)), [*TEXTS, text])
        journal.record(improved(f"j{i}", Returned(source=text)))
        journal.record(
            Evaluated(
                task="t",
                solution=f"s{i}",
                split="val",
                repeat=0,
                outcome=Scored(value=1.0, feedback="f" * 2_000),
            )
        )
    resumed = Journal(store, run)
    tracemalloc.start()
    resumed = Journal(store, run)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    answer = resumed.recorded_answer("r1", "c0", 29, 1)
    assert answer is not None
    assert answer[1] == ("29" + "x" * 200_000,)
    assert held < 30 * 5_000


def test_calls_under_way_are_closed_once_at_the_most_they_can_cost(
    store: SQLiteStore, run: str
) -> None:
    first = Journal(store, run)
    for occurrence, dollars in enumerate((0.5, 0.0)):
        first.record(
            Asked(
                job="j", content_hash="c", occurrence=occurrence,
                worst_tokens=100, worst_dollars=dollars,
            )
        )  # fmt: skip
    # The second was asked before its price was known.
    second = Journal(store, run)
    assert second.record_resumed(lambda tokens: 2.0 * tokens).under_way == 2
    assert (second.tokens, second.dollars) == (200, 200.5)
    third = Journal(store, run)
    assert third.record_resumed(lambda tokens: 2.0 * tokens).under_way == 0
    assert (third.tokens, third.dollars) == (200, 200.5)
