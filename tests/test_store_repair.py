"""A damaged store: what is said of it, what is saved, and that nothing false is."""

import json
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from test_store_check import damage
from test_store_contract import answered, evaluated
from typer.testing import CliRunner

from selftaught.cli import app
from selftaught.errors import StoreError
from selftaught.events import (
    Answered,
    AnyEvent,
    Asked,
    Evaluated,
    Improved,
    Repaired,
    RoundEnded,
    RunEnded,
    RunStarted,
    Unanswered,
    kind,
)
from selftaught.store.event_store import text_hash
from selftaught.store.journal import Journal
from selftaught.store.salvage import LOST_TEXT, SavedRun
from selftaught.store.sqlite import SQLiteStore
from selftaught.store.upkeep import check_store, repair_store
from selftaught.utility import Returned, Scored

PAGE = 4096


def asked(number: int, size: int = 40) -> tuple[Answered, list[str]]:
    """An answer with texts of its own, of about so many bytes."""
    texts = [f"expert {number}", f"prompt {number} " * 3, f"answer {number} " * (size // 9 + 1)]
    names = [text_hash(text) for text in texts]
    event = answered(
        job=f"job{number // 4}", content=f"c{number}", expertise=names[0], message=names[1],
        texts=(names[2],), prompt_tokens=number, dollars=0.01,
    )  # fmt: skip
    return event, texts


def scored(number: int) -> Evaluated:
    """A score, some of them so long that they lie on several pages."""
    feedback = "x" * (9_000 if number % 7 == 0 else 20)
    return Evaluated(
        task="toy", solution=f"s{number}", split="val", repeat=0,
        outcome=Scored(value=number, standard_error=0.0, values=(number,), feedback=feedback),
    )  # fmt: skip


def fill(store: SQLiteStore, answers: int = 40) -> list[str]:
    """Two runs as a whole run leaves them."""
    ids = []
    for first in (0, 1000):
        config: dict[str, object] = {"command": "run", "improvers": [["seed", f"seed {first}"]]}
        run = store.new_run(config, "selftaught run toy")
        store.append(run, RunStarted(config=config))
        for number in range(first, first + answers):
            event, texts = asked(number, 9_000 if number % 5 == 0 else 40)
            store.append_with_texts(run, event, texts)
            store.append_with_texts(run, scored(number), [f"program {number}"])
            if number % 10 == 9:
                source = f"improver {number}"
                store.append(
                    run,
                    Improved(
                        job=f"round/{number}", improver="a", initial="b", target="meta-utility",
                        outcome=Returned(source=source),
                    ),
                )  # fmt: skip
                round_ = RoundEnded(
                    round=(number - first) // 10, candidate=None, improver=text_hash(source),
                    accepted=True, reason="always",
                )  # fmt: skip
                store.append_with_texts(run, round_, [source])
        store.append(run, RunEnded(status="done"))
        ids.append(run)
    return ids


Contents = dict[str, list[AnyEvent]]


def contents(path: Path) -> Contents:
    with SQLiteStore.open(path, writable=False) as store:
        return {row.id: [event for _, _, event in store.events(row.id)] for row in store.runs()}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "runs.db"
    with SQLiteStore.open(path, writable=True) as store:
        fill(store)
    return path


@pytest.fixture(scope="module")
def with_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a kill leaves it: half of it in the file, half in the log."""
    folder = tmp_path_factory.mktemp("log")
    path = folder / "open.db"
    with SQLiteStore.open(path, writable=True) as store:
        fill(store, 20)
        assert store._connection is not None
        store._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        fill(store, 20)
        for suffix in ("", "-wal"):
            (folder / f"killed.db{suffix}").write_bytes(
                path.with_name(path.name + suffix).read_bytes()
            )
    return folder / "killed.db"


def repaired(path: Path) -> tuple[list[SavedRun], Contents]:
    """Repair a store and read what came of it; nothing in it may be new, false or out of order."""
    into = path.with_name("new.db")
    for left in path.parent.glob("new.db*"):
        left.unlink()
    before = {one: one.read_bytes() for one in path.parent.glob(f"{path.name}*")}
    done = repair_store(str(path), str(into))
    assert {one: one.read_bytes() for one in path.parent.glob(f"{path.name}*")} == before
    assert check_store(str(into)).sound
    return done.runs, contents(into)


def assert_true(saved: Contents, truth: Contents) -> None:
    for run, events in saved.items():
        known = list(truth.get(run, []))
        for event in events:
            if not isinstance(event, Repaired | Unanswered):
                # Not always in its place: the damage may have hit its number.
                found = next((one for one in known if _same(event, one)), None)
                assert found is not None, event
                known.remove(found)
        rounds = [one.round for one in events if isinstance(one, RoundEnded)]
        assert rounds == sorted(rounds)


def _same(saved: AnyEvent, true: AnyEvent) -> bool:
    if isinstance(saved, Answered) and isinstance(true, Answered):
        # A prompt that is lost is told by a text in its place.
        return (saved.key, saved.texts, saved.dollars) == (true.key, true.texts, true.dollars)
    return saved == true


def answers_of(saved: Contents) -> int:
    return sum(isinstance(event, Answered) for events in saved.values() for event in events)


def test_a_sound_store_is_sound_and_its_copy_the_same(original: Path, tmp_path: Path) -> None:
    assert check_store(str(original)).sound
    done = repair_store(str(original), str(tmp_path / "copy.db"))
    assert all(one.is_whole and one.is_resumable for one in done.runs)
    assert contents(tmp_path / "copy.db") == contents(original)


def regions(size: int) -> list[tuple[int, int]]:
    """Places to damage: in each page its header, its pointers, its middle and its end."""
    return [
        (page + offset, length)
        for page in range(0, size, PAGE)
        for offset, length in ((0, 8), (8, 24), (100, 8), (2048, 3), (PAGE - 40, 40))
    ]


@pytest.mark.parametrize(
    "share", [pytest.param(15, marks=pytest.mark.slow), 40], ids=["everywhere", "here and there"]
)
def test_flipped_bytes_cost_what_they_hit_and_nothing_else(
    original: Path, tmp_path: Path, share: int
) -> None:
    truth, content = contents(original), original.read_bytes()
    total = sum(map(len, truth.values()))
    path = tmp_path / "runs.db"
    lost: Counter[int] = Counter()
    for place, length in regions(len(content))[share // 2 :: share]:
        changed = bytearray(content)
        for at in range(place, place + length):
            changed[at] ^= 0xFF
        path.write_bytes(changed)
        runs, saved = repaired(path)
        assert_true(saved, truth)
        assert set(saved) == set(truth), place
        checked = check_store(str(path))
        assert not checked.sound or all(one.is_whole for one in runs), place
        told = sum(sum(one.lost.values()) for one in runs)
        kept = sum(
            not isinstance(event, Repaired | Unanswered)
            for some in saved.values()
            for event in some
        )
        # Rounds after a lost one are left out, to be entered again in order.
        again = sum(one.rounds_again for one in runs)
        assert total - kept == told + again, (place, runs)
        lost[told] += 1
    assert max(lost) <= 2, lost
    assert lost[0] >= sum(lost.values()) // 4, lost


@pytest.mark.parametrize("pages", [1, 2, 5])
def test_whole_pages_that_are_gone_leave_all_others(
    original: Path, tmp_path: Path, pages: int
) -> None:
    truth, content = contents(original), original.read_bytes()
    luck = random.Random(pages)
    path = tmp_path / "runs.db"
    for _ in range(6):
        changed = bytearray(content)
        for _ in range(pages):
            place = luck.randrange(len(content) // PAGE) * PAGE
            changed[place : place + PAGE] = luck.choice([b"\0" * PAGE, luck.randbytes(PAGE)])
        path.write_bytes(changed)
        runs, saved = repaired(path)
        assert_true(saved, truth)
        assert sum(sum(one.lost.values()) for one in runs) <= 25 * pages


def test_the_first_page_costs_no_event(original: Path, tmp_path: Path) -> None:
    """SQLite opens nothing without it; the pages behind it do not need it."""
    path = tmp_path / "runs.db"
    path.write_bytes(b"\xa5" * PAGE + original.read_bytes()[PAGE:])
    checked = check_store(str(path))
    assert not checked.sound
    assert "is not a SQLite database" in checked.problems[0]
    assert repaired(path)[1] == contents(original)


@pytest.mark.parametrize("share", [0.999, 0.9, 0.6, 0.3, 0.2])
def test_a_file_that_was_cut_off_keeps_what_is_left(
    original: Path, tmp_path: Path, share: float
) -> None:
    truth, content = contents(original), original.read_bytes()
    path = tmp_path / "runs.db"
    path.write_bytes(content[: int(len(content) * share)])
    assert not check_store(str(path)).sound
    runs, saved = repaired(path)
    assert_true(saved, truth)
    kept = sum(one.kept for one in runs)
    assert kept >= 0.3 * share * sum(map(len, truth.values()))


@pytest.mark.parametrize("size", [0, 1, 99, 100, 511, 4095])
def test_a_file_of_which_next_to_nothing_is_left_is_refused_in_words(
    original: Path, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(original.read_bytes()[:size])
    checked = check_store(str(path))
    assert not checked.sound
    assert checked.problems
    assert not checked.can_be_repaired
    with pytest.raises(StoreError, match="holds nothing that can be read as a run"):
        repair_store(str(path), str(tmp_path / "new.db"))
    assert [one.name for one in tmp_path.glob("*new*")] == []


@pytest.mark.parametrize(
    "content", [b"no database at all\n" * 500, random.Random(1).randbytes(70_000)]
)
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    assert not check_store(str(path)).can_be_repaired
    with pytest.raises(StoreError, match="it is no store, or nothing of it is left"):
        repair_store(str(path), str(tmp_path / "new.db"))


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "runs.db") as other:
        other.execute("CREATE TABLE events (a, b, c, d, e, f)")
        other.execute("INSERT INTO events VALUES ('r-20261124-001', 1, 2.0, 'paused', '', '{}')")
    other.close()
    checked = check_store(str(tmp_path / "runs.db"))
    assert "is the database of another program" in checked.problems[0]


def test_a_store_of_a_later_version_is_told_from_a_damaged_one(
    original: Path, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(original.read_bytes())
    damage(path, "INSERT INTO schema_migrations VALUES (99, 'm099_dreams', 0.5)")
    checked = check_store(str(path))
    assert checked.runs == []
    assert "has schema 99" in checked.problems[0]
    with pytest.raises(StoreError, match=r"has schema 99.*update selftaught"):
        repair_store(str(path), str(tmp_path / "new.db"))


# --- the log ---------------------------------------------------------------------------------------


def copy_of(store: Path, folder: Path, *suffixes: str) -> Path:
    for suffix in suffixes:
        (folder / f"runs.db{suffix}").write_bytes(store.with_name(store.name + suffix).read_bytes())
    return folder / "runs.db"


def test_what_is_in_the_log_only_is_saved_too(with_log: Path, tmp_path: Path) -> None:
    path = copy_of(with_log, tmp_path, "", "-wal")
    _, saved = repaired(path)
    assert answers_of(saved) == 80
    assert saved == contents(path)


def test_a_damaged_log_is_read_frame_by_frame(with_log: Path, tmp_path: Path) -> None:
    """SQLite drops what follows a frame that is not right, though it may be whole."""
    path = copy_of(with_log, tmp_path, "", "-wal")
    truth = contents(copy_of(with_log, tmp_path, "", "-wal"))
    log = path.with_name("runs.db-wal")
    content = bytearray(log.read_bytes())
    for at in range(32 + 24 + 1000, 32 + 24 + 1100):
        content[at] ^= 0xFF
    log.write_bytes(content)
    for left in tmp_path.glob("*-shm"):
        left.unlink()
    _, saved = repaired(path)
    assert_true(saved, truth)
    assert answers_of(saved) >= 78
    by_sqlite = contents(path)
    assert answers_of(by_sqlite) == 40, "this is what SQLite alone gives"


def test_a_log_without_its_file_is_not_taken_away_and_is_saved(
    with_log: Path, tmp_path: Path
) -> None:
    path = copy_of(with_log, tmp_path, "", "-wal")
    truth = contents(path)
    path.write_bytes(b"")
    log = path.with_name("runs.db-wal")
    before = log.read_bytes()
    checked = check_store(str(path))
    assert "is empty, and its log" in checked.problems[0]
    assert checked.can_be_repaired
    for writable in (False, True):
        with pytest.raises(StoreError, match=r"empty.*selftaught store repair"):
            SQLiteStore.open(path, writable=writable)
    assert log.read_bytes() == before
    _, saved = repaired(path)
    assert_true(saved, truth)
    assert answers_of(saved) >= 20


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_store_repair import fill
from selftaught.store.sqlite import SQLiteStore

store = SQLiteStore.open(sys.argv[1], writable=True)
fill(store, 20)
store._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
fill(store, 20)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_log_that_was_deleted_after_a_kill_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    folder = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", KILLED, path, folder], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert check_store(str(path)).sound
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    checked = check_store(str(path))
    assert not checked.sound
    assert "did not close the store, and its log" in checked.problems[0]
    _, saved = repaired(path)
    assert answers_of(saved) == 40


# --- texts and events ------------------------------------------------------------------------------


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    path = tmp_path / "runs.db"
    path.write_bytes(original.read_bytes())
    return path


def test_a_lost_answer_is_told_counted_and_its_cost_kept(copied: Path) -> None:
    event, texts = asked(3)
    damage(copied, f"DELETE FROM texts WHERE hash = '{text_hash(texts[2])}'")
    checked = check_store(str(copied))
    first, second = checked.runs
    assert first.lost == {"answered": 1}
    assert first.asked_again == 1
    assert second.is_whole
    _, saved = repaired(copied)
    (stand_in,) = [one for one in saved[first.run] if isinstance(one, Unanswered)]
    assert stand_in.lost_tokens == event.prompt_tokens
    assert stand_in.lost_dollars == event.dollars
    assert saved[first.run][-1] == Repaired(lost={"answered": 1})
    assert not any(isinstance(one, Repaired) for one in saved[second.run])


def test_a_lost_answer_is_not_counted_as_a_call_under_way_too(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    event, texts = asked(3)
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({"command": "run"}, "selftaught run toy")
        begun = Asked(
            job=event.job, content_hash=event.content_hash, occurrence=event.occurrence,
            worst_tokens=1000, worst_dollars=1.0,
        )  # fmt: skip
        store.append(run, begun)
        store.append_with_texts(run, event, texts)
    damage(path, f"DELETE FROM texts WHERE hash = '{text_hash(texts[2])}'")
    repaired(path)
    with SQLiteStore.open(path.with_name("new.db"), writable=True) as store:
        journal = Journal(store, run)
        assert journal.record_resumed(lambda tokens: 0.0).under_way == 0
        assert (journal.tokens, journal.dollars) == (event.prompt_tokens, event.dollars)


@pytest.mark.parametrize("damaged", [float("nan"), float("inf"), -1e300, 1e300])
def test_a_time_that_was_damaged_costs_nothing_else(
    copied: Path, monkeypatch: pytest.MonkeyPatch, damaged: float
) -> None:
    truth = contents(copied)
    monkeypatch.chdir(copied.parent)
    content = copied.read_bytes()
    with SQLiteStore.open(copied, writable=False) as store:
        row = store.runs()[0]
        times = [row.created_at, next(at for _, at, _ in store.events(row.id))]
    for at in times:
        assert struct.pack(">d", at) in content
        content = content.replace(struct.pack(">d", at), struct.pack(">d", damaged))
    copied.write_bytes(content)
    runs, saved = repaired(copied)
    assert saved == truth
    assert all(one.is_whole for one in runs)
    shown = CliRunner().invoke(app, ["show", "--store", "new.db"])
    assert shown.exit_code == 0, shown.exception


def test_an_altered_answer_is_no_answer(copied: Path) -> None:
    _, texts = asked(3)
    damage(copied, f"UPDATE texts SET text = 'other' WHERE hash = '{text_hash(texts[2])}'")
    assert check_store(str(copied)).runs[0].lost == {"answered": 1}
    assert answers_of(repaired(copied)[1]) == 79


def test_an_answer_whose_prompt_is_lost_is_not_paid_for_twice(copied: Path) -> None:
    event, texts = asked(3)
    damage(copied, f"DELETE FROM texts WHERE hash = '{text_hash(texts[1])}'")
    runs, saved = repaired(copied)
    assert (runs[0].lost, runs[0].prompts_lost, runs[0].asked_again) == ({}, 1, 0)
    (kept,) = [e for e in saved[runs[0].run] if isinstance(e, Answered) and e.key == event.key]
    assert kept.texts == event.texts
    assert kept.expertise == event.expertise
    assert kept.message == text_hash(LOST_TEXT)


def test_the_text_of_an_improver_is_found_in_the_job_that_made_it(copied: Path) -> None:
    damage(copied, "DELETE FROM texts WHERE text LIKE 'improver %'")
    assert not check_store(str(copied)).sound
    runs, saved = repaired(copied)
    assert all(one.is_whole for one in runs)
    assert saved == contents(copied)


def test_rounds_after_a_lost_one_are_left_to_be_entered_in_order(copied: Path) -> None:
    damage(copied, "DELETE FROM events WHERE kind = 'round_ended' AND key = '1'")
    runs, saved = repaired(copied)
    assert [one.rounds_again for one in runs] == [2, 2]
    assert [one.lost for one in runs] == [{"unknown": 1}] * 2
    rounds = [e.round for e in saved[runs[0].run] if isinstance(e, RoundEnded)]
    assert rounds == [0]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET body = '{}' WHERE kind = 'answered' AND key LIKE '%|c3|%'",
        "UPDATE events SET body = x'ff' WHERE kind = 'answered' AND key LIKE '%|c3|%'",
        "UPDATE events SET key = 'other' WHERE kind = 'answered' AND key LIKE '%|c3|%'",
        "UPDATE events SET body = replace(body, '\"c3\"', '\"c4\"') WHERE kind = 'answered'",
    ],
)
def test_an_altered_event_is_left_out(copied: Path, change: str) -> None:
    damage(copied, change)
    assert not check_store(str(copied)).sound
    runs, saved = repaired(copied)
    assert sum(runs[0].lost.values()) == 1
    assert answers_of(saved) == 79


def test_a_lost_line_of_the_list_is_made_anew_from_the_first_event(copied: Path) -> None:
    damage(copied, "DELETE FROM runs WHERE id LIKE '%-001'")
    truth = contents(copied.with_name("runs.db"))
    runs, saved = repaired(copied)
    assert [(one.is_listed, one.is_resumable) for one in runs] == [(False, True), (True, True)]
    assert len(saved) == 2 != len(truth)


def test_a_run_whose_configuration_is_lost_is_kept_and_said_not_to_be_resumable(
    copied: Path,
) -> None:
    damage(
        copied,
        "UPDATE runs SET config = 'torn' WHERE id LIKE '%-001'",
        "DELETE FROM events WHERE kind = 'run_started' AND run LIKE '%-001'",
    )
    checked = check_store(str(copied))
    assert any("The configuration of run" in problem for problem in checked.problems)
    runs, saved = repaired(copied)
    assert [one.is_resumable for one in runs] == [False, True]
    assert answers_of(saved) == 80


# --- the files and the commands --------------------------------------------------------------------


def cli(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["store", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_check_and_repair_as_commands(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied.parent)
    assert cli("check", "--store", "runs.db") == "runs.db is sound.\n"
    assert json.loads(cli("check", "--store", "runs.db", "--json"))["sound"]
    _, texts = asked(3)
    damage(copied, f"DELETE FROM texts WHERE hash = '{text_hash(texts[2])}'")
    said = cli("check", "--store", "runs.db", code=1)
    assert "1 lost (1 answered)" in said
    assert "1 answer would be asked for, and paid for, again" in said
    assert "`selftaught store repair --store runs.db`" in said
    assert "The run is whole" in cli("check", "--store", "runs.db", "--run", "latest")
    first = json.loads(cli("check", "--store", "runs.db", "--json", code=1))["runs"][0]["run"]
    cli("check", "--store", "runs.db", "--run", first, code=1)
    said = cli("repair", "--store", "runs.db")
    assert "Written to runs.repaired.db: 2 runs" in said
    assert "runs.db is as it was" in said
    with pytest.raises(StoreError, match="exists and is not overwritten"):
        repair_store("runs.db", "runs.repaired.db")
    assert cli("check", "--store", "runs.repaired.db") == "runs.repaired.db is sound.\n"


def test_a_store_that_is_being_written_is_not_repaired(copied: Path) -> None:
    with (
        SQLiteStore.open(copied, writable=True),
        pytest.raises(StoreError, match=f"is being written by process {os.getpid()}"),
    ):
        repair_store(str(copied), str(copied.with_name("new.db")))


def test_a_log_left_by_another_store_keeps_its_name_taken(copied: Path) -> None:
    copied.with_name("new.db-wal").write_bytes(b"x")
    with pytest.raises(StoreError, match="the log of another store: name another file"):
        repair_store(str(copied), str(copied.with_name("new.db")))
    assert not copied.with_name("new.db").exists()


def test_a_repaired_run_has_its_old_times_and_can_be_added_to(copied: Path) -> None:
    damage(copied, "DELETE FROM events WHERE kind = 'evaluated' AND key LIKE '%|s7'")
    repaired(copied)
    new = copied.with_name("new.db")
    with (
        SQLiteStore.open(copied, writable=False) as old,
        SQLiteStore.open(new, writable=True) as store,
    ):
        run = old.runs()[0].id
        assert store.runs()[0].created_at == old.runs()[0].created_at
        times = [at for _, at, event in old.events(run)]
        assert [at for _, at, event in store.events(run)][:-1] == times
        count = store.runs()[0].events
        assert store.append(run, evaluated()) == count + 1


def test_every_kind_of_loss_is_named(copied: Path) -> None:
    damage(copied, "DELETE FROM events WHERE kind = 'evaluated' AND key LIKE '%|s7'")
    (first, _) = check_store(str(copied)).runs
    # The indexes lost it too, so that nothing tells what it was.
    assert first.lost == {"unknown": 1}
    assert kind(evaluated()) == "evaluated"


def test_looking_saving_and_exporting_write_nothing_to_what_a_kill_left(
    with_log: Path, tmp_path: Path
) -> None:
    """The log is moved into its file by the one writer only, whatever SQLite is linked."""
    path = copy_of(with_log, tmp_path, "", "-wal")
    log = path.with_name("runs.db-wal")
    before = (path.read_bytes(), log.read_bytes())
    cli("check", "--store", str(path))
    cli("repair", "--store", str(path))
    cli("export", "latest", str(tmp_path / "a.run"), "--store", str(path))
    assert (path.read_bytes(), log.read_bytes()) == before
    with SQLiteStore.open(path, writable=True):
        said = CliRunner().invoke(
            app, ["store", "import", str(tmp_path / "a.run"), "--store", str(path)]
        )
    assert f"is being written by {'this very process'}" in str(said.exception)
