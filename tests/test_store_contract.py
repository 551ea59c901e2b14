"""What every store must do, as a class to run against each implementation."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selftaught.errors import StoreError, UsageError
from selftaught.events import (
    Answered,
    AnyEvent,
    Asked,
    Attempted,
    Audited,
    BudgetRefused,
    CandidateTried,
    Evaluated,
    Improved,
    MetaEvaluated,
    Paused,
    Rejected,
    Repaired,
    Requested,
    RoundEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    Unanswered,
    kind,
)
from selftaught.store.event_store import Store, text_hash
from selftaught.store.sqlite import SQLiteStore
from selftaught.utility import Failed, Returned, Scored, TimedOut


def answered(job: str = "r1", content: str = "c0", occurrence: int = 0, **more: object) -> Answered:
    fields: dict[str, object] = {
        "expertise": text_hash("expert"),
        "message": text_hash("improve this"),
        "temperature": 0.7,
        "texts": (text_hash("answer one"), text_hash("answer two")),
        "model": "mutation",
    }
    return Answered(job=job, content_hash=content, occurrence=occurrence, **{**fields, **more})  # type: ignore[arg-type]


def evaluated(solution: str = "s0", value: float = 0.5, repeat: int = 0) -> Evaluated:
    return Evaluated(
        task="three_sat",
        solution=solution,
        split="val",
        repeat=repeat,
        outcome=Scored(
            value=value, standard_error=0.1, values=(value, 0.1), failures={"failed": 1}
        ),
        seconds=0.25,
    )


def paused(number: int = 0) -> Paused:
    return Paused(what="retry", detail=f"attempt {number}", seconds=1.5)


EVERY_KIND: tuple[AnyEvent, ...] = (
    RunStarted(config={"tasks": ["three_sat"], "rounds": 3, "nested": {"a": None}}),
    RunResumed(recorded=7),
    answered(truncated=(1,), dollars=0.25, prompt_tokens=10, completion_tokens=20, attempts=2),
    answered(occurrence=2, source="cache", reuse_key="k"),
    Rejected(
        job="r1",
        content_hash="c1",
        occurrence=0,
        expertise=text_hash("expert"),
        message=text_hash("improve this"),
        temperature=0.7,
        n_responses=2,
        model="openai/x",
        reason="too long",
    ),
    evaluated(),
    Evaluated(task="t", solution="s", split="test", repeat=4, outcome=TimedOut(reason="cpu")),
    Requested(job="r1", call=1, solution="s0", outcome="scored", value=0.5, calls=1, responses=6),
    BudgetRefused(job="r1", limit="calls", times=3),
    Attempted(job="r1", what="socket", detail="connect('10.0.0.1', 80)"),
    Improved(
        job="r1",
        improver="i0",
        initial="i0",
        target="meta-utility",
        outcome=Returned(source="def improve_algorithm(): ...\n# \0 é 🙂"),
        unchanged=False,
        calls=4,
    ),
    MetaEvaluated(
        improver="i0", split="val", outcome=Scored(value=0.5), by_task={"three_sat": 0.5}
    ),
    RoundEnded(round=0, candidate=None, improver="aa", accepted=True, reason="the seed"),
    paused(),
    RunEnded(status="done", reason="all rounds are over"),
    Asked(job="r1", content_hash="c0", occurrence=0, worst_tokens=500, worst_dollars=0.125),
    Unanswered(job="r1", reason="no answer", lost_tokens=500, lost_dollars=0.125),
    Audited(
        program="aa",
        generations={"with": 2, "without": 0},
        usable=True,
        published=False,
        kinds=("unsandboxed",),
        findings=("line 3: use_sandbox=False",),
        tried=(),
    ),
    CandidateTried(
        round=1,
        candidate="bb",
        improver="aa",
        differences=(0.5, -0.25),
        evidence=1.045,
        needed=20.0,
        stop="futile",
        calls=4,
        responses=8,
        utility_calls=16,
    ),
    Repaired(lost={"answered": 1, "unknown": 2}, prompts_lost=1),
)


class StoreContract:
    """Subclass it with a fixture `store` that gives an empty, writable store."""

    @pytest.fixture
    def run(self, store: Store) -> str:
        return store.new_run({"seed": 1}, "selftaught run three_sat")

    def test_every_kind_of_event_comes_back_as_it_was_appended(
        self, store: Store, run: str
    ) -> None:
        for event in EVERY_KIND:
            store.append(run, event)
        assert tuple(event for _, _, event in store.events(run)) == EVERY_KIND
        for event in EVERY_KIND:
            assert store.find(run, kind(event), event.key) is not None

    def test_there_is_a_sample_of_every_kind(self) -> None:
        assert {type(event) for event in EVERY_KIND} == set(AnyEvent.__args__)

    def test_events_are_numbered_from_one_within_each_run(self, store: Store) -> None:
        first, second = store.new_run({}, "one"), store.new_run({}, "two")
        assert [store.append(first, paused(i)) for i in range(3)] == [1, 2, 3]
        assert [store.append(second, paused(i)) for i in range(2)] == [1, 2]
        assert store.append(first, paused()) == 4
        assert [seq for seq, _, _ in store.events(first)] == [1, 2, 3, 4]

    def test_events_carry_the_time_at_which_they_were_appended(
        self, store: Store, run: str
    ) -> None:
        for i in range(3):
            store.append(run, paused(i))
        times = [at for _, at, _ in store.events(run)]
        assert times == sorted(times)
        assert times[0] >= store.runs()[0].created_at

    def test_events_can_be_limited_to_kinds_and_to_what_is_new(
        self, store: Store, run: str
    ) -> None:
        for event in EVERY_KIND:
            store.append(run, event)
        kinds = [kind(event) for _, _, event in store.events(run, ("evaluated", "paused"))]
        assert kinds == ["evaluated", "evaluated", "paused"]
        new = [seq for seq, _, _ in store.events(run, after=len(EVERY_KIND) - 2)]
        assert new == [len(EVERY_KIND) - 1, len(EVERY_KIND)]
        assert list(store.events(run, ())) == []

    def test_a_long_run_is_iterated_whole_and_sees_what_is_appended_meanwhile(
        self, store: Store, run: str
    ) -> None:
        for i in range(1_203):
            store.append(run, paused(i))
        seen = []
        for seq, _, event in store.events(run, ["paused"]):
            if seq == 5:
                store.append(run, paused(1_203))
            assert isinstance(event, Paused)
            seen.append(event.detail)
        assert seen == [f"attempt {i}" for i in range(1_204)]

    def test_find_returns_the_latest_event_of_a_key_or_none(self, store: Store, run: str) -> None:
        store.append(run, evaluated("s0", 0.1))
        store.append(run, evaluated("s1", 0.2))
        store.append(run, evaluated("s0", 0.3))
        assert store.find(run, "evaluated", evaluated("s0").key) == evaluated("s0", 0.3)
        assert store.find(run, "evaluated", evaluated("s2").key) is None
        assert store.find(run, "improved", evaluated("s0").key) is None
        other = store.new_run({}, "other")
        assert store.find(other, "evaluated", evaluated("s0").key) is None

    def test_a_text_is_stored_once_under_its_hash(self, store: Store) -> None:
        name = store.put_text("def algorithm(): ...")
        assert name == text_hash("def algorithm(): ...") == store.put_text("def algorithm(): ...")
        assert len(name) == 16
        assert store.text(name) == "def algorithm(): ..."

    @pytest.mark.parametrize(
        "text",
        ["", "\0", "a\0b", "\r\n", "🙂", "\ud800", "a\udfffb\0", "\ud83d\ude42", "'; DROP TABLE"],
    )
    def test_a_text_comes_back_exactly(self, store: Store, text: str) -> None:
        assert store.text(store.put_text(text)) == text

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        # Two stores have this test, each with a fixture of its own.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(text=st.text(st.characters(exclude_categories=())))
    def test_any_string_is_a_text(self, store: Store, text: str) -> None:
        assert store.text(store.put_text(text)) == text

    def test_a_text_of_many_megabytes_comes_back_exactly(self, store: Store) -> None:
        text = "x = 'é'\n" * 2_000_000
        assert store.text(store.put_text(text)) == text

    def test_an_unknown_text_is_an_error_that_names_it(self, store: Store) -> None:
        with pytest.raises(StoreError, match="holds no text '0123456789abcdef'"):
            store.text("0123456789abcdef")

    def test_an_event_and_its_texts_are_recorded_together(self, store: Store, run: str) -> None:
        texts = ["expert", "improve this", "answer one", "answer two"]
        assert store.append_with_texts(run, answered(), texts) == 1
        assert [store.text(text_hash(text)) for text in texts] == texts

    def test_an_event_that_cannot_be_recorded_leaves_neither_itself_nor_texts(
        self, store: Store, run: str
    ) -> None:
        with pytest.raises(StoreError, match="every number in it must be finite"):
            store.append_with_texts(run, evaluated(value=float("nan")), ["its text"])
        with pytest.raises(StoreError, match="There is no run 'r-none'"):
            store.append_with_texts("r-none", paused(), ["its text"])
        with pytest.raises(StoreError, match="holds no text"):
            store.text(text_hash("its text"))
        assert list(store.events(run)) == []
        assert store.append(run, paused()) == 1

    def test_an_event_that_is_no_json_is_refused(self, store: Store, run: str) -> None:
        with pytest.raises(StoreError, match="'run_started' cannot be recorded as JSON"):
            store.append(run, RunStarted(config={"model": object()}))

    def test_lone_surrogates_in_an_event_are_written_out(self, store: Store, run: str) -> None:
        event = Evaluated(
            task="my\udce9task",
            solution="s",
            split="val",
            repeat=0,
            outcome=Failed(reason="\ud800!"),
        )
        store.append(run, event)
        found = store.find(run, "evaluated", event.key)
        assert isinstance(found, Evaluated)
        assert found.outcome == Failed(reason="\\ud800!")
        assert found.task == "my\\udce9task"
        assert [event for _, _, event in store.events(run)] == [found]

    def test_not_finite_numbers_are_refused_beside_surrogates_too(
        self, store: Store, run: str
    ) -> None:
        event = Paused(what="\ud800", detail="", seconds=float("inf"))
        with pytest.raises(StoreError, match="must be finite"):
            store.append(run, event)

    def test_threads_append_without_loss_or_gap(self, store: Store, run: str) -> None:
        def append(thread: int) -> None:
            for i in range(50):
                numbers.append(store.append_with_texts(run, evaluated(f"{thread}.{i}"), [f"{i}"]))

        numbers: list[int] = []
        threads = [threading.Thread(target=append, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(numbers) == list(range(1, 401))
        solutions = {e.solution for _, _, e in store.events(run) if isinstance(e, Evaluated)}
        assert solutions == {f"{thread}.{i}" for thread in range(8) for i in range(50)}
        assert store.check() == []

    def test_ids_are_unique_sorted_by_age_and_fit_for_typing(self, store: Store) -> None:
        ids = [store.new_run({}, "run") for _ in range(12)]
        assert len(set(ids)) == 12
        assert ids == sorted(ids) == [row.id for row in store.runs()]
        assert all(run == run.lower() and run.isascii() and len(run) <= 16 for run in ids)

    def test_a_run_is_listed_as_it_was_entered(self, store: Store) -> None:
        run = store.new_run({"tasks": ["a"], "limits": {"dollars": None}}, "selftaught run a")
        (row,) = store.runs()
        assert (row.id, row.command) == (run, "selftaught run a")
        assert row.config == {"tasks": ["a"], "limits": {"dollars": None}}
        assert (row.status, row.reason, row.ended_at, row.events) == ("unfinished", "", None, 0)

    def test_the_status_of_a_run_is_that_of_its_last_end_unless_resumed(
        self, store: Store, run: str
    ) -> None:
        def status() -> tuple[str, str, int]:
            (row,) = store.runs()
            assert (row.ended_at is None) == (row.status == "unfinished")
            return row.status, row.reason, row.events

        store.append(run, RunStarted(config={}))
        assert status() == ("unfinished", "", 1)
        store.append(run, RunEnded(status="interrupted", reason="Ctrl-C"))
        assert status() == ("interrupted", "Ctrl-C", 2)
        store.append(run, RunResumed(recorded=2))
        assert status() == ("unfinished", "", 3)
        store.append(run, RunEnded(status="done"))
        store.append(run, paused())
        assert status() == ("done", "", 5)

    def test_a_configuration_must_be_json(self, store: Store) -> None:
        unfit: list[object] = [object(), float("nan")]
        for value in unfit:
            with pytest.raises(StoreError, match="configuration of a run must be JSON"):
                store.new_run({"a": value}, "run")
        assert store.runs() == []

    def test_undecodable_bytes_of_a_command_line_are_written_out(self, store: Store) -> None:
        store.new_run({"store": "caf\udce9.db"}, "run --store caf\udce9.db")
        (row,) = store.runs()
        assert row.command == "run --store caf\\udce9.db"
        assert row.config == {"store": "caf\\udce9.db"}

    def test_a_run_is_found_by_its_id_the_beginning_of_one_or_latest(self, store: Store) -> None:
        first = store.new_run({}, "run")
        assert store.resolve(first) == store.resolve(first[:4]) == store.resolve("r") == first
        second = store.new_run({}, "run")
        assert store.resolve("latest") == second
        assert [store.resolve(first), store.resolve(second)] == [first, second]

    def test_what_names_no_run_or_several_is_a_usage_error(self, store: Store) -> None:
        for name in ("latest", "r"):
            with pytest.raises(UsageError, match="holds no run yet; `selftaught run TASK`"):
                store.resolve(name)
        ids = [store.new_run({}, "run") for _ in range(5)]
        with pytest.raises(UsageError, match=f"may mean {ids[4]}, {ids[3]}, {ids[2]} and 2 more"):
            store.resolve("r-")
        for name in ("x", "", "\ud800", ids[0] + "0"):
            with pytest.raises(UsageError, match=r"There is no run .* 'latest' names the newest"):
                store.resolve(name)

    def test_the_events_of_an_unknown_run_are_an_error_at_once(self, store: Store) -> None:
        with pytest.raises(StoreError, match="There is no run 'r-none'"):
            store.events("r-none")

    def test_a_missing_text_is_found_by_check(self, store: Store, run: str) -> None:
        store.append_with_texts(run, answered(), ["expert", "improve this", "answer one"])
        store.append(run, next(e for e in EVERY_KIND if isinstance(e, RoundEnded)))
        assert store.check() == [
            f"Event 1 of run {run!r} refers to text {text_hash('answer two')!r}, which is missing.",
            f"Event 2 of run {run!r} refers to text 'aa', which is missing.",
        ]

    def test_a_closed_store_says_so(self, store: Store, run: str) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreError, match="has been closed: open it again"):
            store.append(run, paused())
        with pytest.raises(StoreError, match="has been closed"):
            store.runs()


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SQLiteStore]:
        with SQLiteStore.open(tmp_path / "runs.db", writable=True) as store:
            yield store
