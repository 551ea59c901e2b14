"""A disk that is full: said in words, nothing recorded is lost, nothing is paid for twice.

On a small file system of its own, where the test may mount one, and under a limit on the size of
files, which needs no rights.
"""

import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import write_toy
from test_crash import RUN, keys, result, server
from test_store_contract import paused

from selftaught.errors import StoreError
from selftaught.events import kind
from selftaught.store import room
from selftaught.store.sqlite import SQLiteStore
from selftaught.store.upkeep import check_store, repair_store

MIB = 2**20


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives a file system of so many bytes, or skips where none may be mounted."""
    made: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


APPEND = """
import sys
from selftaught.errors import StoreError
from selftaught.events import Paused
from selftaught.store.sqlite import SQLiteStore

with SQLiteStore.open(sys.argv[1], writable=True) as store:
    run = store.new_run({}, "run")
    for number in range(100_000):
        try:
            store.append_with_texts(run, Paused(what="w", detail=str(number)), [f"{number} " * 500])
        except StoreError as error:
            print(error)
            break
        print(number, flush=True)
"""


def appended_until_full(path: Path, most: int | None = None) -> tuple[list[int], str]:
    """Append in another process until that fails; what it recorded and what it was told."""

    def limit() -> None:
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run(
        [sys.executable, "-c", APPEND, path], capture_output=True, text=True, timeout=120,
        preexec_fn=limit, check=False,
    )  # fmt: skip
    *numbers, said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    return [int(number) for number in numbers], said


def assert_whole(path: Path, acknowledged: list[int]) -> None:
    """Nothing is lost, and the store goes on where it was."""
    assert len(acknowledged) > 10
    assert check_store(str(path)).sound
    with SQLiteStore.open(path, writable=True) as store:
        (row,) = store.runs()
        stored = [event.detail for _, _, event in store.events(row.id)]  # type: ignore[union-attr]
        assert stored == [str(number) for number in acknowledged]
        assert store.append(row.id, paused()) == len(acknowledged) + 1
        assert store.check() == []


def test_a_small_file_system_that_fills_up(mounted: Callable[[int], Path]) -> None:
    disk = mounted(3 * MIB)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * MIB)
    acknowledged, said = appended_until_full(disk / "runs.db")
    assert "cannot grow, since the disk is full (" in said
    assert "bytes free); what was recorded is kept. Make room, then `selftaught resume`" in said
    ballast.unlink()
    assert_whole(disk / "runs.db", acknowledged)


@pytest.mark.parametrize("most", [600_000, 1_000_001, 2 * MIB])
def test_a_limit_on_the_size_of_files(tmp_path: Path, most: int) -> None:
    acknowledged, said = appended_until_full(tmp_path / "runs.db", most)
    assert "cannot grow, since the disk is full (" in said
    assert_whole(tmp_path / "runs.db", acknowledged)


def test_a_store_on_a_full_disk_cannot_be_made_and_leaves_nothing_half_made(
    mounted: Callable[[int], Path],
) -> None:
    disk = mounted(MIB)
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(b"x" * 2 * MIB)
    with pytest.raises(StoreError, match=r"the disk is full \(0 bytes free\)"):
        SQLiteStore.open(disk / "runs.db", writable=True)
    ballast.unlink()
    with SQLiteStore.open(disk / "runs.db", writable=True) as store:
        assert store.check() == []


def test_what_a_full_disk_keeps_from_being_saved_is_said(
    mounted: Callable[[int], Path], tmp_path: Path
) -> None:
    """The log has room for all of it, the file beside the log has not."""
    path = tmp_path / "runs.db"
    with SQLiteStore.open(path, writable=True) as store:
        run = store.new_run({}, "x")
        for number in range(3_000):
            store.append_with_texts(run, paused(number), [f"{number} " * 500])
    size = path.stat().st_size
    # What was found, the log of the new store, and half of that store.
    disk = mounted(int(2.6 * size))
    with pytest.raises(StoreError, match="disk is full"):
        repair_store(str(path), str(disk / "saved.db"))
    assert list(disk.iterdir()) == []


def test_room_is_what_the_disk_and_the_limits_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    assert (room.free_bytes(str(path)) or 0) > MIB
    path.write_bytes(b"x" * 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (5000, 5000))
    assert room.free_bytes(str(path)) == 4000
    path.with_name("runs.db-wal").write_bytes(b"x" * 6000)
    assert room.free_bytes(str(path)) == 0
    assert room.free_bytes("/no/such/folder/runs.db") is None


# --- whole runs ------------------------------------------------------------------------------------

NO_RESERVE = (
    "import selftaught.store.journal as journal; journal.RESERVE_BYTES = 0; "
    "from selftaught.cli import main; main()"
)


def run_cli(
    folder: Path, *arguments: str, most: int | None = None, reserve: bool = True
) -> "subprocess.CompletedProcess[str]":
    def limit() -> None:
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    program = ["-m", "selftaught"] if reserve else ["-c", NO_RESERVE]
    return subprocess.run(
        [sys.executable, *program, *arguments], cwd=folder, capture_output=True, text=True,
        timeout=180, preexec_fn=limit, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, list[str]]:
    """What the run comes to where there is room, and what it asks."""
    folder = tmp_path_factory.mktemp("whole")
    write_toy(folder / "toy")
    with server(folder / "log") as url:
        done = run_cli(folder, *RUN, "--model", "openai/x", "--base-url", url)
    assert done.returncode == 0, done.stderr
    return result(done.stdout), keys(folder / "log")


def check_stopped_and_resumed(
    folder: Path,
    store: Path,
    whole: tuple[object, list[str]],
    make_room: Callable[[], None],
    *,
    most: int | None = None,
    reserve: bool = True,
) -> int:
    """Run until there is no room, make some, resume; return how many answers were asked twice."""
    write_toy(folder / "toy")
    log = folder / "log"
    with server(log) as url:
        stopped = run_cli(
            folder, *RUN, "--store", str(store), "--model", "openai/x", "--base-url", url,
            most=most, reserve=reserve,
        )  # fmt: skip
        asked = len(keys(log))
        assert stopped.returncode == 1
        assert "Traceback" not in stopped.stderr
        assert "make room, then `selftaught resume r-" in stopped.stderr or (
            not reserve and "Make room, then `selftaught resume` goes on" in stopped.stderr
        ), stopped.stderr
        assert 0 < asked < len(whole[1]), "it stopped in the middle"
        assert check_store(str(store)).sound
        make_room()
        resumed = run_cli(folder, "resume", "latest", "--store", str(store), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert result(resumed.stdout) == whole[0]
    with SQLiteStore.open(store, writable=False) as opened:
        (row,) = opened.runs()
        assert row.status == "done"
        assert Counter(kind(event) for _, _, event in opened.events(row.id))["run_started"] == 1
    assert set(keys(log)) == set(whole[1])
    return len(keys(log)) - len(whole[1])


@pytest.mark.slow
def test_a_run_stops_before_its_disk_is_full_and_asks_nothing_twice(
    tmp_path: Path, mounted: Callable[[int], Path], whole: tuple[object, list[str]]
) -> None:
    disk = mounted(32 * MIB)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (32 * MIB - room.RESERVE_BYTES - 500_000))
    store = disk / "runs.db"
    assert check_stopped_and_resumed(tmp_path, store, whole, ballast.unlink) == 0


@pytest.mark.slow
def test_a_run_stops_before_a_limit_on_files_and_asks_nothing_twice(
    tmp_path: Path, whole: tuple[object, list[str]]
) -> None:
    store = tmp_path / "runs.db"
    most = room.RESERVE_BYTES + 300_000
    assert check_stopped_and_resumed(tmp_path, store, whole, lambda: None, most=most) == 0


@pytest.mark.slow
@pytest.mark.parametrize("most", [200_000, 300_001])
def test_a_run_whose_disk_fills_up_at_once_asks_again_for_what_was_under_way_only(
    tmp_path: Path, whole: tuple[object, list[str]], most: int
) -> None:
    store = tmp_path / "runs.db"
    twice = check_stopped_and_resumed(
        tmp_path, store, whole, lambda: None, most=most, reserve=False
    )
    assert twice <= 8, "as many as are asked at once"


def test_a_run_that_has_no_room_to_begin_says_so(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy")
    done = run_cli(tmp_path, *RUN, "--json", most=MIB)
    assert done.returncode == 1
    assert "may grow by" in done.stderr
    assert json.loads(run_cli(tmp_path, "show", "--json").stdout)[0]["status"] == "failed"


def test_a_full_disk_of_a_server_is_told_from_one_that_is_gone() -> None:
    psycopg = pytest.importorskip("psycopg")
    from selftaught.store.postgres import PostgresStore

    class Full:
        closed = True

        def execute(self, *statement: object) -> None:
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")

        def close(self) -> None:
            pass

    with (
        PostgresStore(Full(), "postgresql://h/d", False, lambda: 0.0) as store,  # type: ignore[arg-type]
        pytest.raises(StoreError, match=r"the disk of its server is full; .*`selftaught resume`"),
    ):
        store.runs()
