"""A whole store looked over, and a sound one made of what a damaged one holds."""

import os
import time
from pathlib import Path

import msgspec

from selftaught.errors import StoreError
from selftaught.events import Repaired
from selftaught.store import damaged_sqlite
from selftaught.store.event_store import meant_run
from selftaught.store.opening import is_url, open_store
from selftaught.store.salvage import Findings, SavedRun
from selftaught.store.sqlite import SQLiteStore
from selftaught.store.whole_file import refuse_taken, whole_file

# A damaged table may give a finding for each of its rows.
MOST_PROBLEMS = 50


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look over a store came to.

    Attributes:
        store: as messages name it.
        sound: nothing is wrong with it; of one run, with that run.
        problems: what is wrong, in sentences, at most MOST_PROBLEMS of them.
        more_problems: how many others.
        runs: of a damaged store, what can be saved of each run.
        can_be_repaired: `repair` would save something.
    """

    store: str
    sound: bool
    problems: list[str]
    more_problems: int = 0
    runs: list[SavedRun] = []
    can_be_repaired: bool = False


class RepairedStore(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair wrote: where from, where to, and what each run kept."""

    store: str
    into: str
    texts: int
    runs: list[SavedRun]


def check_store(name: str, run: str | None = None) -> Checked:
    """Look a store over: one that cannot be opened too.

    Args:
        name: as after `--store`.
        run: look whether this one is whole; an id, the beginning of one, or `latest`.

    Raises:
        StoreError: there is no such store, or it cannot be reached.
        UsageError: no run, or more than one, is meant.
    """
    if not is_url(name) and not os.path.isfile(os.path.realpath(name)):
        raise StoreError(f"There is no store {name!r}: name the file that runs are kept in.")
    if not is_url(name) and not os.access(os.path.realpath(name), os.R_OK, effective_ids=True):
        raise StoreError(f"The store {name!r} cannot be read: look at the permissions of the file.")
    problems, ids = _problems(name)
    if not problems:
        if run is not None:
            meant_run(run, ids, name)
        return Checked(store=_shown(name), sound=True, problems=[])
    runs: list[SavedRun] = []
    try:
        with Findings() as findings:
            _find(name, findings)
            runs = [_told(findings, one) for one in findings.runs()]
    except StoreError as error:
        if str(error) not in problems:
            problems.append(str(error))
    can_be_repaired = bool(runs)
    sound = False
    if run is not None:
        wanted = meant_run(run, [one.run for one in reversed(runs)], name)
        runs = [one for one in runs if one.run == wanted]
        sound = all(one.is_whole for one in runs)
    return Checked(
        store=_shown(name),
        sound=sound,
        problems=problems[:MOST_PROBLEMS],
        more_problems=max(0, len(problems) - MOST_PROBLEMS),
        runs=runs,
        can_be_repaired=can_be_repaired,
    )


def repair_store(name: str, into: str) -> RepairedStore:
    """Make a sound SQLite store of all that can be read of a damaged one, which stays as it is.

    Args:
        name: of the damaged one, as after `--store`.
        into: the file to make.

    Raises:
        StoreError: `into` exists, somebody writes to the store, or nothing can be read of it.
    """
    refuse_taken(into)
    if not is_url(name):
        if not os.path.isfile(os.path.realpath(name)):
            raise StoreError(f"There is no store {name!r}: name the file that runs are kept in.")
        damaged_sqlite.refuse_written(os.path.realpath(name))
    with whole_file(into) as path, Findings(str(path.with_name("found"))) as findings:
        _find(name, findings)
        if not findings.runs():
            raise StoreError(
                f"{_shown(name)!r} holds nothing that can be read as a run: it is no store, or "
                "nothing of it is left. Go back to a copy."
            )
        runs, texts = _write(findings, path)
    return RepairedStore(store=_shown(name), into=into, texts=texts, runs=runs)


def _problems(name: str) -> tuple[list[str], list[str]]:
    """What is wrong with a store, and the ids of its runs where it can be opened."""
    found = [] if is_url(name) else damaged_sqlite.told_by_files(os.path.realpath(name))
    if not is_url(name) and not os.path.getsize(os.path.realpath(name)):
        # SQLite would take away the log of an empty file, and with it all that is left.
        return found, []
    ids: list[str] = []
    try:
        store = open_store(name, writable=False)
    except StoreError as error:
        if is_url(name):
            raise
        return [*found, str(error)], []
    with store:
        try:
            found += store.check()
            ids = [] if found else [row.id for row in reversed(store.runs())]
        except StoreError as error:
            found.append(str(error))
    return found, ids


def _find(name: str, findings: Findings) -> None:
    if is_url(name):
        from selftaught.store.postgres import PostgresStore

        with PostgresStore.open(name, writable=False) as store:
            store.find_rows(findings)
    else:
        damaged_sqlite.find_rows(os.path.realpath(name), findings)


def _told(findings: Findings, run: str) -> SavedRun:
    told = SavedRun(run=run)
    for _ in findings.saved(run, told):
        pass
    return told


def _write(findings: Findings, path: Path) -> tuple[list[SavedRun], int]:
    runs = []
    texts = 0
    with SQLiteStore.open(path, writable=True) as store:
        with store.adding() as adding:
            for run in findings.runs():
                told = SavedRun(run=run)
                created_at, command, config, _ = findings.listed(run)
                adding.add_run(run, created_at, command, config)
                seq = 0
                for seq, (at, event) in enumerate(findings.saved(run, told), start=1):
                    adding.add_event(run, seq, at, event)
                if not told.is_whole:
                    repaired = Repaired(lost=told.lost, prompts_lost=told.prompts_lost)
                    adding.add_event(run, seq + 1, time.time(), repaired)
                runs.append(told)
            for text in findings.texts():
                adding.add_text(text)
                texts += 1
        problems = store.check()
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        # Only the file is kept, and a log is left where the disk had no room to move it in there.
        raise StoreError(
            "What was saved is not kept, since its disk is full: make room, or name a file on "
            "another disk with --into. The damaged store is as it was."
        )
    if problems:
        raise StoreError(f"What was saved is not sound, so it is not kept: {problems[0]}")
    return runs, texts


def _shown(name: str) -> str:
    if not is_url(name):
        return name
    from selftaught.store.postgres_text import shown_url

    return shown_url(name)
