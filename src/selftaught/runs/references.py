"""Improvers as a comparison names them: shipped, from a file, or out of a recorded run."""

import re
from collections.abc import Sequence

import msgspec

from selftaught.history import improver_of_round, read_history
from selftaught.improver import load_improver
from selftaught.store.event_store import LATEST, Store
from selftaught.store.opening import open_store

_OF_A_RUN = re.compile(r"(?P<run>[\w-]+):(?P<round>\d+)")


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """An improver that a reference names.

    Attributes:
        name: as shown; of a run its full id, since `latest` will mean another one tomorrow.
        source: the program.
        trained_on: tasks, as references, that it was selected on; known of a run only.
    """

    name: str
    source: str
    trained_on: tuple[str, ...] = ()


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """Who is compared, as a configuration has it.

    Attributes:
        improvers: names and sources, those asked for first.
        trained_on: tasks that any of them was selected on.
        baseline: whom the others are compared to.
    """

    improvers: tuple[tuple[str, str], ...]
    trained_on: tuple[str, ...]
    baseline: str


def load_field(
    improvers: Sequence[str], references: Sequence[str], baseline: str | None, store: str
) -> Field:
    """Load the improvers asked for and the references that are not among them.

    Args:
        improvers: as for `load_references`.
        references: the same; shown below.
        baseline: one of either, as typed there; the first where left out.
        store: path of the SQLite file where recorded runs are.

    Raises:
        SelftaughtError: there is no such improver, run or round.
    """
    typed = [*improvers, *(name for name in references if name not in improvers)]
    loaded = load_references(typed, store)
    names = {given: one.name for given, one in zip(typed, loaded, strict=True)}
    chosen = typed[0] if baseline is None else baseline
    return Field(
        improvers=tuple((one.name, one.source) for one in loaded),
        trained_on=tuple(dict.fromkeys(task for one in loaded for task in one.trained_on)),
        baseline=names.get(chosen, chosen),
    )


def load_references(references: Sequence[str], store: str) -> list[Reference]:
    """Load improvers by shipped name, `.py` file, or `RUN:ROUND`, such as `latest:3`.

    Args:
        references: as typed.
        store: path of the SQLite file where the runs are; opened only where one is named.

    Raises:
        SelftaughtError: there is no such improver, run or round.
    """
    return [_load(reference, store) for reference in references]


def _load(reference: str, store: str) -> Reference:
    found = _OF_A_RUN.fullmatch(reference)
    if found is None:
        return Reference(name=reference, source=load_improver(reference).source)
    run = found["run"]
    with open_store(store, writable=False, must_exist=True) as opened:
        history = read_history(opened, _latest(opened) if run == LATEST else run)
        source, _ = improver_of_round(opened, history, int(found["round"]))
    return Reference(
        name=f"{history.row.id}:{found['round']}", source=source, trained_on=history.config.tasks
    )


def _latest(store: Store) -> str:
    """The newest run that has rounds: a comparison of `latest:3` may be made twice."""
    with_rounds = [row.id for row in store.runs() if row.config.get("command") == "run"]
    return with_rounds[-1] if with_rounds else LATEST
