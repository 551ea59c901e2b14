"""One run as one file: it comes back as it was, and a file that is not right changes nothing."""

import base64
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import write_toy
from postgres_server import binaries, postgres_server
from test_crash import RUN, keys, result, server, start
from test_secrets import CANARY, STRANGER, assert_clean
from test_store_contract import EVERY_KIND, answered, evaluated, paused
from typer.testing import CliRunner

import selftaught as st
from selftaught.cli import app
from selftaught.errors import SelftaughtError, StoreError, UsageError
from selftaught.events import RoundEnded
from selftaught.redaction import Redactor
from selftaught.store import moving, run_file
from selftaught.store.event_store import text_hash
from selftaught.store.moving import Moved, export_run, import_run
from selftaught.store.opening import open_store
from selftaught.store.sqlite import SQLiteStore

TEXTS = ["expert", "improve this", "answer one", "answer two", "lone \ud800 one", "nul \0", "é🙂\n"]


def fill(store: str) -> str:
    with open_store(store, writable=True) as opened:
        run = opened.new_run({"seed": 1, "command": "run"}, "selftaught run 'a b' \0")
        opened.append_with_texts(run, answered(), TEXTS[:4])
        for text in ("aa", "bb"):
            opened.put_text(text)
        for event in EVERY_KIND:
            if event.__struct_config__.tag != "round_ended":
                opened.append(run, event)
        names = tuple(map(text_hash, TEXTS[4:]))
        opened.append_with_texts(run, answered(job="odd", texts=names), TEXTS[4:])
    return run


def exported(store: str, file: Path, run: str = "latest") -> Moved:
    with open_store(store, writable=False) as opened, file.open("wb") as out:
        return export_run(opened, opened.resolve(run), out)


def events_of(store: str, run: str) -> list[tuple[int, float, object]]:
    with open_store(store, writable=False) as opened:
        return list(opened.events(run))


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = str(tmp_path / "runs.db")
    fill(path)
    return path


@pytest.fixture
def file(store: str, tmp_path: Path) -> Path:
    path = tmp_path / "a.run"
    exported(store, path)
    return path


def test_a_run_comes_back_as_it_was(store: str, file: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    moved = import_run(str(file), other)
    assert moved.is_new
    with (
        SQLiteStore.open(store, writable=False) as old,
        SQLiteStore.open(other, writable=False) as new,
    ):
        (row,) = new.runs()
        assert row.config.pop("imported") is True
        assert [row] == old.runs()
        assert new.check() == []
        for text in TEXTS:
            assert new.text(text_hash(text)) == text
    assert events_of(other, moved.run) == events_of(store, moved.was)


def test_the_same_run_gives_the_same_bytes(store: str, file: Path, tmp_path: Path) -> None:
    import_run(str(file), str(tmp_path / "other.db"))
    exported(str(tmp_path / "other.db"), tmp_path / "b.run")
    assert (tmp_path / "b.run").read_bytes() == file.read_bytes()


def test_a_run_that_goes_on_is_exported_as_far_as_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({}, "x")
        for number in range(5):
            store.append(run, paused(number))

        class Growing:
            path = "growing"

            def __getattr__(self, name: str) -> object:
                return getattr(store, name)

            def run(self, name: str) -> object:
                row = store.run(name)
                store.append(run, paused(9))
                return row

        with (tmp_path / "a.run").open("wb") as out:
            assert export_run(Growing(), run, out).events == 5  # type: ignore[arg-type]
    assert import_run(str(tmp_path / "a.run"), str(tmp_path / "other.db")).events == 5


# --- names and duplicates --------------------------------------------------------------------------


def test_a_run_whose_name_is_taken_gets_a_free_one(file: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    fill(other)
    moved = import_run(str(file), other)
    assert moved.was.endswith("-001")
    assert moved.run == moved.was[:-3] + "002"
    with SQLiteStore.open(other, writable=True) as store:
        assert store.resolve("latest") == moved.run
        assert store.new_run({}, "x").endswith("-003")
        assert store.check() == []


def test_a_new_run_does_not_take_the_name_of_one_that_was_imported(
    file: Path, tmp_path: Path
) -> None:
    lines = lines_of(file)
    lines[0]["run"] = lines[0]["run"][:-3] + "007"
    other = str(tmp_path / "other.db")
    assert import_run(str(written(file, lines)), other).run.endswith("-007")
    with SQLiteStore.open(other, writable=True) as store:
        assert store.new_run({}, "x").endswith("-008")


def test_a_run_that_is_there_already_is_left_alone(store: str, file: Path) -> None:
    for _ in range(2):
        moved = import_run(str(file), store)
        assert not moved.is_new
    with SQLiteStore.open(store, writable=True) as opened:
        assert len(opened.runs()) == 1
        opened.append(moved.run, paused())
    assert not import_run(str(file), store).is_new, "the store holds it, and more"


def test_a_run_that_went_on_elsewhere_is_entered_beside_its_beginning(
    store: str, file: Path, tmp_path: Path
) -> None:
    other = str(tmp_path / "other.db")
    import_run(str(file), other)
    with SQLiteStore.open(other, writable=True) as opened:
        opened.append(opened.resolve("latest"), paused())
    exported(other, tmp_path / "more.run")
    moved = import_run(str(tmp_path / "more.run"), store)
    assert moved.is_new
    assert moved.run.endswith("-002")


@pytest.mark.parametrize("number", ["999999", "9999999", "999999999"])
def test_an_imported_run_does_not_use_up_the_names_of_its_day(
    file: Path, tmp_path: Path, number: str
) -> None:
    """A run of a name that is too long would be found by no repair and taken by no import."""
    lines = lines_of(file)
    lines[0]["run"] = lines[0]["run"][:-3] + number  # type: ignore[index]
    other = str(tmp_path / "other.db")
    import_run(str(written(file, lines)), other)
    with SQLiteStore.open(other, writable=True) as store:
        new = store.new_run({}, "x")
    assert run_file.RUN_NAME.fullmatch(new)
    assert len(new) <= len("r-20261124-1000000")
    exported(other, tmp_path / "again.run", new)
    assert import_run(str(tmp_path / "again.run"), str(tmp_path / "third.db")).is_new


def test_programs_that_only_repeat_themselves_are_exported_and_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They shrink as a bomb does, and a hostile improver may write them."""
    for module in (moving, run_file):
        monkeypatch.setattr(module, "FREE_BYTES", 2**20)
    path = str(tmp_path / "runs.db")
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({}, "x")
        with store.adding() as adding:
            for number in range(1, 101):
                text = f"# {number}" + "x" * 100_000
                adding.add_text(text)
                event = evaluated(solution=text_hash(text))
                adding.add_event(run, number, float(number), event)
    moved = exported(path, tmp_path / "a.run")
    assert moved.texts == 100
    # Compressed, it would have been refused.
    assert (tmp_path / "a.run").stat().st_size > 10_000_000
    assert import_run(str(tmp_path / "a.run"), str(tmp_path / "other.db")).is_new
    exported(str(tmp_path / "other.db"), tmp_path / "b.run")
    assert (tmp_path / "b.run").read_bytes() == (tmp_path / "a.run").read_bytes()


def test_a_run_that_is_not_there_is_said_so(store: str, tmp_path: Path) -> None:
    with (
        SQLiteStore.open(store, writable=False) as opened,
        (tmp_path / "b.run").open("wb") as out,
        pytest.raises(StoreError, match="There is no run 'r-1'"),
    ):
        export_run(opened, "r-1", out)


# --- files that are not right ----------------------------------------------------------------------


def lines_of(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def written(file: Path, lines: list[dict[str, object]], *, seal: bool = True) -> Path:
    """Write lines with a checksum that fits, as one who changes a file on purpose would."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines[:-1])
    last = dict(lines[-1])
    if seal:
        last["sha256"] = hashlib.sha256(body).hexdigest()
        last["events"] = sum(line.get("type") == "event" for line in lines)
        last["texts"] = sum(line.get("type") == "text" for line in lines)
    file.write_bytes(gzip.compress(body + json.dumps(last).encode() + b"\n"))
    return file


def refused(file: Path, match: str) -> str:
    """Import a file, which must fail and change neither a store that is there nor make one."""
    folder = file.parent
    there, missing = folder / "there.db", folder / "missing.db"
    if not there.exists():
        SQLiteStore.open(there, writable=True).close()
    before = there.read_bytes()
    for store in (there, missing):
        with pytest.raises(StoreError, match=match) as error:
            import_run(str(file), str(store))
    assert there.read_bytes() == before
    assert not missing.exists()
    return str(error.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(file, "is cut off|is no file of a run, or is damaged")


def test_a_byte_that_was_flipped_anywhere_is_refused(file: Path) -> None:
    content = file.read_bytes()
    for place in [
        *range(12),
        *range(12, len(content), 37),
        *range(len(content) - 9, len(content)),
    ]:
        changed = bytearray(content)
        changed[place] ^= 0xFF
        # Four bytes of time and two that name a system are in no checksum, and say nothing.
        if 4 <= place <= 9:
            continue
        file.write_bytes(changed)
        refused(file, "damaged|cut off|Line|refused")


def test_lines_that_are_missing_doubled_or_swapped_are_refused(file: Path) -> None:
    lines = lines_of(file)
    number = next(i for i, line in enumerate(lines) if line["type"] == "event")
    for wrong in (
        lines[:number] + lines[number + 1 :],
        [*lines[:number], lines[number], *lines[number:]],
        [lines[1], lines[0], *lines[2:]],
        lines[1:],
        [lines[0], *lines],
        [lines[0], lines[-1], *lines[1:]],
    ):
        refused(written(file, wrong), "Line|behind its end")
    refused(written(file, lines[:-1]), "Line|cut off")


CHANGES: list[tuple[str, Callable[[list[dict[str, object]]], object], str]] = [
    ("format", lambda L: L[0].update(format="other"), "names the format 'other'"),
    ("version", lambda L: L[0].update(version=2), "has version 2.*update selftaught"),
    ("path", lambda L: L[0].update(run="../../etc/passwd"), "names a run"),
    ("name", lambda L: L[0].update(run="r-20261124-001\n"), "names a run"),
    ("digits", lambda L: L[0].update(run="r-２０２６1124-001"), "names a run"),
    ("time", lambda L: L[0].update(created_at=1e999), "is no line of a run|a time that is none"),
    ("date", lambda L: L[0].update(created_at=1e18), "a time that is none"),
    ("past", lambda L: L[0].update(created_at=-1e18), "a time that is none"),
    ("deep", lambda L: L[0].update(config=nested(700)), "must be JSON|is no line of a run"),
    ("config", lambda L: L[0].update(config=[1]), "Expected `object`"),
    ("field", lambda L: L[0].update(path="/etc/passwd"), "unknown field"),
    ("text", lambda L: of(L, "text").update(text="other"), "is not that of its hash"),
    ("both", lambda L: of(L, "text").update(content="YQ=="), "holds no text, or two"),
    ("bytes", lambda L: of(L, "text").update(text=None, content="/w=="), "not that of its hash"),
    ("lost", lambda L: L.remove(of(L, "text")), "which no line before holds"),
    ("twice", lambda L: L.insert(2, of(L, "text")), "an earlier line holds too|belongs"),
    ("seq", lambda L: of(L, "event").update(seq=10**30), "is no line of a run|comes next"),
    ("kind", lambda L: of(L, "event")["event"].update(type="dreamt"), "dreamt"),  # type: ignore[index,attr-defined]
    ("at", lambda L: of(L, "event").update(at=-(1e999)), "is no line of a run|a time that is none"),
    ("future", lambda L: of(L, "event").update(at=1e18), "a time that is none"),
    ("count", lambda L: L[-1].update(events=3), "counts other lines"),
    ("sum", lambda L: L[-1].update(sha256="0" * 64), "is the checksum of other lines"),
]


def nested(depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


def of(lines: list[dict[str, object]], kind: str) -> dict[str, object]:
    return next(line for line in lines if line["type"] == kind)


@pytest.mark.parametrize(("change", "match"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_changed_file_is_refused(
    file: Path, change: Callable[[list[dict[str, object]]], object], match: str
) -> None:
    lines = lines_of(file)
    change(lines)
    said = refused(written(file, lines, seal=lines[-1] == lines_of(file)[-1]), match)
    assert "\n" not in said


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no gzip", gzip.compress(b""), gzip.compress(b"\n\n\n"), gzip.compress(b"{}"),
        gzip.compress(b"[" * 500_000), gzip.compress(b'{"a":' * 500_000),
        gzip.compress(b"\xff\xfe\n"), gzip.compress(b"null\n"), b"\x1f\x8b" + b"\0" * 50,
    ],
    # A compressed file holds the time, so the content cannot name its test.
    ids=[
        "nothing", "text", "empty", "lines", "object", "deep list", "deep object", "no utf-8",
        "null", "cut",
    ],
)  # fmt: skip
def test_hostile_content_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.run"
    file.write_bytes(content)
    refused(file, "damaged|cut off|Line 1")


def test_something_behind_the_end_is_refused(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content + b"x")
    refused(file, "something stands behind its end")
    file.write_bytes(content + gzip.compress(b"more\n"))
    refused(file, "something stands behind its end")


def test_a_bomb_is_refused_before_it_fills_memory(file: Path, tmp_path: Path) -> None:
    head = gzip.decompress(file.read_bytes()).split(b"\n")[0] + b"\n"
    bomb = tmp_path / "bomb.run"
    bomb.write_bytes(gzip.compress(head + b" " * (300 * 2**20), 1))
    assert bomb.stat().st_size < 2 * 2**20
    tracemalloc.start()
    try:
        refused(bomb, "unpacks to more than 200 times its size|holds a line of more than")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * run_file.MAX_LINE_BYTES


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no file: name one")
    refused(tmp_path / "nothing", "cannot be read")
    with pytest.raises(StoreError, match=r"is no file|cannot be read"):
        import_run("/dev/zero", str(tmp_path / "runs.db"))


def test_a_write_that_fails_half_way_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.db"
    SQLiteStore.open(other, writable=True).close()
    real, calls = moving._take_in, []

    def fails(*arguments: object) -> None:
        calls.append(1)
        if len(calls) > 5:
            raise StoreError("no more")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(moving, "_take_in", fails)
    with pytest.raises(StoreError, match="no more"):
        import_run(str(file), str(other))
    with SQLiteStore.open(other, writable=False) as store:
        assert store.runs() == []
        with pytest.raises(StoreError, match="holds no text"):
            store.text(text_hash("expert"))


def test_a_damaged_run_is_not_exported(store: str, tmp_path: Path) -> None:
    from test_store_check import damage

    damage(Path(store), f"DELETE FROM texts WHERE hash = '{text_hash('expert')}'")
    with pytest.raises(StoreError, match=r"is damaged \(.*selftaught store check"):
        exported(store, tmp_path / "b.run")


def test_a_text_that_is_missed_at_first_is_missed_where_it_is_needed(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({}, "x")
        gone = text_hash("never put")
        store.append(run, evaluated(solution=gone))
        exported(path, tmp_path / "a.run")
        ended = RoundEnded(round=0, candidate=None, improver=gone, accepted=True, reason="")
        store.append(run, ended)
    with pytest.raises(StoreError, match=r"is damaged \(.*selftaught store check"):
        exported(path, tmp_path / "b.run")


# --- secrets, memory, commands ---------------------------------------------------------------------


def test_no_secret_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor()
    for module in ("selftaught.store.record", "selftaught.store.sqlite", "selftaught.store.moving"):
        for name in ("redacted", "redacted_data"):
            monkeypatch.setattr(f"{module}.{name}", getattr(redactor, name), raising=False)
    monkeypatch.setattr(
        "selftaught.store.sqlite.text_hash", lambda text: text_hash(redactor.redacted(text))
    )
    redactor.remember(CANARY)
    path = str(tmp_path / "runs.db")
    text = f"key {CANARY} {base64.b64encode(CANARY.encode()).decode()} {STRANGER}"
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({"key": text}, text)
        name = text_hash(redactor.redacted(text))
        event = answered(job=text, expertise=name, message=name, texts=(name,))
        store.append_with_texts(run, event, [text])
    exported(path, tmp_path / "a.run")
    unpacked = gzip.decompress((tmp_path / "a.run").read_bytes())
    assert unpacked.count(b"[redacted]") >= 4
    assert_clean("the file", unpacked, [CANARY, STRANGER])
    assert import_run(str(tmp_path / "a.run"), str(tmp_path / "other.db")).is_new


def test_a_file_with_a_secret_is_refused(file: Path) -> None:
    lines = lines_of(file)
    lines[0]["command"] = f"selftaught run --key {STRANGER}"
    said = refused(written(file, lines), "what looks like a key or password in its command")
    assert STRANGER not in said


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    def peak(answers: int) -> int:
        path = str(tmp_path / f"{answers}.db")
        with SQLiteStore.open(path, writable=True) as store:
            run = store.new_run({}, "x")
            with store.adding() as adding:
                for number in range(answers):
                    text = f"answer {number} " * 20
                    name = text_hash(text)
                    adding.add_text(text)
                    event = answered(
                        content=f"c{number}", expertise=name, message=name, texts=(name,)
                    )
                    adding.add_event(run, number + 1, float(number), event)
        tracemalloc.start()
        try:
            exported(path, tmp_path / "a.run")
            import_run(str(tmp_path / "a.run"), str(tmp_path / f"{answers}-other.db"))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(5_000) < peak(1_500) + 300_000


def cli(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["store", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_export_and_import_as_commands(store: str, tmp_path: Path) -> None:
    file, other = str(tmp_path / "new.run"), str(tmp_path / "other.db")
    assert "written to" in cli("export", "latest", file, "--store", store)
    again = CliRunner().invoke(app, ["store", "export", "latest", file, "--store", store])
    assert "exists and is not overwritten" in str(again.exception)
    cli("export", "latest", file, "--store", store, "--force")
    assert "is now in" in cli("import", file, "--store", other)
    assert "nothing was written" in cli("import", file, "--store", other)
    fill(str(tmp_path / "third.db"))
    assert "was not free" in cli("import", file, "--store", str(tmp_path / "third.db"))
    document = json.loads(cli("import", file, "--store", other, "--json"))
    assert document["is_new"] is False
    assert document["events"] == len(events_of(other, document["run"]))


def test_an_import_tells_what_a_resume_would_reach(file: Path, tmp_path: Path) -> None:
    """A resume sends the key to the address that the file names."""
    other = str(tmp_path / "other.db")
    assert "--trust-import" not in cli("import", str(file), "--store", other)
    lines = lines_of(file)
    lines[0]["config"] = {
        "base_url": "http://stranger.example/v1\x1b[2J", "pool": "tcp://stranger.example:1",
        "allow_weak_sandbox": True, "allow_network": True, "tasks": ["tsp", "/tmp/theirs"],
    }  # fmt: skip
    strange = written(file, lines)
    told = cli("import", str(strange), "--store", other)
    assert "--trust-import" in told
    for one in ("stranger.example/v1", "tcp://stranger", "layers", "network", "/tmp/theirs"):
        assert one in told
    assert "\x1b" not in told
    third = str(tmp_path / "third.db")
    assert len(json.loads(cli("import", str(strange), "--store", third, "--json"))["reaches"]) == 5


def test_what_a_file_asks_for_is_not_done_before_somebody_agrees(tmp_path: Path) -> None:
    """The address that gets the key, and the folder whose utility is run, came with the file."""
    toy, mine, theirs = tmp_path / "toy", str(tmp_path / "mine.db"), str(tmp_path / "theirs.db")
    write_toy(toy)
    run = st.run([st.Task.load(str(toy))], rounds=1, budget=st.Budget(calls=1), store=mine)
    exported(mine, tmp_path / "a.run")
    moved = import_run(str(tmp_path / "a.run"), theirs)
    assert moved.run == run.id
    with pytest.raises(UsageError, match=f"from {toy}.*--trust-import"):
        st.resume(run.id, theirs)
    assert st.resume(run.id, theirs, trust_import=True).status == "done"
    # It is asked each time: what was agreed to once is not kept.
    with pytest.raises(UsageError, match="--trust-import"):
        st.resume(run.id, theirs)
    # What is exported again is what came.
    exported(theirs, tmp_path / "b.run")
    lines = lines_of(tmp_path / "b.run")
    assert "imported" not in lines[0]["config"]


@pytest.mark.parametrize(
    ("config", "options", "is_refused"),
    [
        ({}, {}, False),
        ({"base_url": "http://stranger.example/v1"}, {}, True),
        ({"base_url": "http://stranger.example/v1"}, {"base_url": "http://127.0.0.1:9/v1"}, False),
        ({"pool": "ray://stranger.example:1"}, {}, True),
        ({"pool": "ray://stranger.example:1"}, {"pool": "local"}, False),
        ({"allow_network": True}, {}, True),
        ({"allow_weak_sandbox": True}, {}, True),
    ],
)
def test_an_option_of_the_resume_stands_for_what_the_file_says(
    config: dict[str, object], options: dict[str, str], is_refused: bool, tmp_path: Path
) -> None:
    store = str(tmp_path / "runs.db")
    with SQLiteStore.open(store, writable=True) as opened:
        # Refused for its missing task where not for what it would reach.
        whole = {"command": "run", "tasks": ["no_such_task"], "imported": True, **config}
        run = opened.new_run(whole, "run")
    with pytest.raises(SelftaughtError) as refused:
        st.resume(run, store, **options)  # type: ignore[arg-type]
    assert ("--trust-import" in str(refused.value)) == is_refused
    assert ("no_such_task" in str(refused.value)) == (not is_refused)


# --- between stores --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("psycopg")
    if binaries() is None:
        pytest.skip("no Postgres server here; on Debian: apt-get install postgresql")
    with postgres_server() as running:
        yield running.new_database()


def test_a_run_goes_to_postgres_and_back(store: str, file: Path, url: str, tmp_path: Path) -> None:
    moved = import_run(str(file), url)
    assert moved.is_new
    assert not import_run(str(file), url).is_new
    assert events_of(url, moved.run) == events_of(store, moved.was)
    with open_store(url, writable=True) as opened:
        assert opened.check() == []
        assert opened.new_run({}, "x") != moved.run
    exported(url, tmp_path / "b.run", moved.run)
    back = str(tmp_path / "back.db")
    assert import_run(str(tmp_path / "b.run"), back).is_new
    assert events_of(back, moved.was) == events_of(store, moved.was)
    with SQLiteStore.open(back, writable=False) as opened:
        assert opened.text(text_hash(TEXTS[4])) == TEXTS[4]


@pytest.mark.slow
def test_a_killed_run_is_resumed_in_another_store_and_nothing_is_asked_twice(
    tmp_path: Path, url: str
) -> None:
    folder = tmp_path / "work"
    write_toy(folder / "toy")
    whole_log, log, pid_file = (tmp_path / name for name in ("whole", "log", "pid"))
    with server(whole_log) as address:
        whole, _ = start(folder, address, *RUN, "--store", "whole.db").communicate(timeout=180)

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "selftaught", *arguments, "--json"], cwd=folder,
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    with server(log, "--on-request-number", "11", "--kill-pid-file", str(pid_file)) as address:
        victim = start(folder, address, *RUN, "--store", "killed.db")
        pid_file.write_text(str(victim.pid))
        victim.communicate(timeout=180)
        assert victim.returncode == -signal.SIGKILL
        command("store", "export", "latest", "half.run", "--store", "killed.db")
        run = json.loads(command("store", "import", "half.run", "--store", url))["run"]
        assert result(command("resume", run, "--store", url, "--trust-import")) == result(whole)
        command("store", "export", run, "whole.run", "--store", url)
        command("store", "import", "whole.run", "--store", "back.db")
        assert result(
            command("resume", "latest", "--store", "back.db", "--trust-import")
        ) == result(whole)
    # A key begins with the id of its run, which was taken in the other store.
    asked = [key.partition("/")[2] for key in keys(log)]
    assert len(asked) == len(set(asked)), "a request was repeated"
    assert sorted(asked) == sorted(key.partition("/")[2] for key in keys(whole_log))


def test_a_damaged_postgres_store_is_told_and_saved(url: str, tmp_path: Path) -> None:
    import psycopg

    from selftaught.store.upkeep import check_store, repair_store

    with open_store(url, writable=True) as opened:
        run = opened.new_run({"command": "run"}, "x")
        opened.append_with_texts(run, answered(), TEXTS[:4])
        opened.append(run, evaluated())
        opened.append(run, paused())
    assert check_store(url).sound
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute("ALTER TABLE events DISABLE TRIGGER ALL")
        raw.execute("ALTER TABLE texts DISABLE TRIGGER ALL")
        raw.execute("UPDATE events SET body = '{}' WHERE kind = 'evaluated' AND run = %s", (run,))
        raw.execute("DELETE FROM events WHERE kind = 'paused' AND run = %s", (run,))
        raw.execute("UPDATE texts SET text = 'x' WHERE hash = %s", (text_hash("improve this"),))
    checked = check_store(url)
    assert not checked.sound
    (told,) = [one for one in checked.runs if one.run == run]
    assert (told.kept, told.lost, told.prompts_lost) == (1, {"evaluated": 1}, 1)
    into = str(tmp_path / "saved.db")
    repaired = repair_store(url, into)
    assert repaired.into == into
    assert check_store(into).sound
    with SQLiteStore.open(into, writable=False) as opened:
        assert [event.key for _, _, event in opened.events(run, ("answered",))] == [answered().key]
