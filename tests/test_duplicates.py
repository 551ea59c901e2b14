"""Programs with the same code are scored once, and only where the score follows from the code."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import selftaught as st
from selftaught.errors import Interrupted
from selftaught.events import AnyEvent, Evaluated, Requested
from selftaught.language_model import Answer, Request
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import Watch, resume, start
from selftaught.solution import same_code
from selftaught.store.opening import open_store

PLAIN = "def algorithm(x):\n    y = x + 1\n    return y\n"


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace("+ 1", "+ 1  # one more"),
        PLAIN.replace("(x):", "(x):   "),
        PLAIN + "\n\n# The end.\n",
        PLAIN.removesuffix("\n"),
    ],
)
def test_comments_and_blanks_after_the_code_do_not_count(other: str) -> None:
    assert same_code(PLAIN, other)


@pytest.mark.parametrize(
    "other",
    [
        "# A comment that moves every line.\n" + PLAIN,
        PLAIN.replace("x + 1", "x  + 1"),
        PLAIN.replace("    y = x", "    'of the function'\n    y = x"),
        PLAIN.replace("1", "2"),
        PLAIN.replace("return y", "return y return"),
    ],
)
def test_what_a_program_can_tell_does_count(other: str) -> None:
    assert not same_code(PLAIN, other)


def test_texts_that_do_not_parse_are_never_the_same() -> None:
    assert not same_code("return return", "return return  # !")
    assert not same_code("(" * 5000, "(" * 5000 + "  # deep")


UTILITY = '''"""The mean of what a program returns."""
from selftaught.utility import over_instances

def score(solution, split, seed):
    return over_instances(lambda x: float(solution.call("algorithm", x)), split, seed)
'''
IMPROVER = """from helpers import extract_code

def improve_algorithm(initial_solution, utility, language_model):
    answers = language_model.batch_prompt("An expert.", ["first", "second", "third"])
    return max(extract_code(answers), key=utility)
"""
BUDGET = st.Budget(calls=4, responses=3, utility_calls=8)


class Commenting:
    """Answers with one program and another comment each time."""

    name = "commenting"
    is_language_model = False

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        program = PLAIN.replace("+ 1", f"+ 1  # {request.message}")
        return Answer(texts=(f"```python\n{program}```",))


def task_folder(folder: Path, *, work: int = 100, utility: str = UTILITY) -> Path:
    folder.mkdir()
    (folder / "task.toml").write_text(
        f'summary = "count"\n[limits]\nwork = {work}\n[normalisation]\nbest = 100.0\n'
        "[splits.val]\nseed = 4321\ninstances = 5\n[splits.test]\nseed = 5678\ninstances = 5\n"
    )
    (folder / "description.md").write_text("Return a large number.")
    (folder / "solution.py").write_text("def algorithm(x):\n    return x\n")
    (folder / "utility.py").write_text(utility)
    return folder


def run(
    folder: Path,
    store: Path,
    *,
    improver: str = IMPROVER,
    stop: threading.Event | None = None,
    on_event: Callable[[AnyEvent], None] = lambda event: None,
    **changes: object,
) -> tuple[st.Run, list[AnyEvent]]:
    events: list[AnyEvent] = []

    def note(event: AnyEvent) -> None:
        events.append(event)
        on_event(event)

    config = RunConfig(
        command="improve",
        tasks=(str(folder),),
        improvers=(("all", improver),),
        budget=BUDGET,
        meta_budget=BUDGET,
        slots=2,
        **changes,  # type: ignore[arg-type]
    )
    watch = Watch(on_event=note)
    return start(config, str(store), watch=watch, stop=stop, model=Commenting()), events


def scores(events: list[AnyEvent]) -> list[Evaluated]:
    return [e for e in events if isinstance(e, Evaluated) and e.split == "val"]


@pytest.mark.parametrize("speculate", [False, True])
def test_the_same_code_is_scored_once_told_and_charged_each_time(
    tmp_path: Path, speculate: bool
) -> None:
    store = tmp_path / "s.db"
    result, events = run(task_folder(tmp_path / "count"), store, speculate=speculate)
    alike = [e for e in scores(events) if e.same_as]
    computed = [e for e in scores(events) if not e.same_as]
    # With speculation two may have begun at once, before either had a score.
    assert len(alike) >= (1 if speculate else 2)
    assert len(alike) + len(computed) == 4
    by_program = {e.solution: e for e in computed}
    assert all(e.outcome == by_program[e.same_as].outcome for e in alike)
    assert result.spent["deduplicated_scores"] == len(alike)
    asked = [e for e in events if isinstance(e, Requested)]
    assert len(asked) == result.improvements[0].utility_calls == 3
    assert len({e.value for e in asked}) == 1
    with open_store(str(store), writable=False) as opened:
        assert all("+ 1  # " in opened.text(e.solution) for e in alike)


ASKS_FOR_ONE = """from helpers import extract_code

def improve_algorithm(initial_solution, utility, language_model):
    utility(extract_code(language_model.batch_prompt("An expert.", ["first"]))[0])
    language_model.batch_prompt("An expert.", ["second", "third"])
    return initial_solution
"""


def test_what_nobody_asked_for_was_not_spared(tmp_path: Path) -> None:
    """The host looks at programs ahead; none of them is told, recorded or counted for that."""
    folder = task_folder(tmp_path / "count")
    result, events = run(folder, tmp_path / "s.db", improver=ASKS_FOR_ONE, speculate=True)
    assert [e for e in events if isinstance(e, Requested)]
    assert not [e for e in scores(events) if e.same_as]
    assert result.spent["deduplicated_scores"] == 0


def test_a_resumed_run_knows_what_was_scored_before(tmp_path: Path) -> None:
    folder, store = task_folder(tmp_path / "count"), tmp_path / "s.db"
    stop = threading.Event()

    def stop_after_a_score(event: AnyEvent) -> None:
        if isinstance(event, Requested):
            stop.set()

    with pytest.raises(Interrupted):
        run(folder, store, stop=stop, on_event=stop_after_a_score, speculate=False)
    run_id = "latest"
    again = resume(run_id, str(store), model=Commenting())
    assert again.spent["deduplicated_scores"] == 2
    # The initial program's two, and one by each split of what came of it.
    assert again.improvements[0].utility_calls == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"work": 0},
        {"utility": UTILITY.replace("return over", "len(solution.source)\n    return over")},
    ],
)
def test_not_where_time_or_the_text_may_decide(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = task_folder(tmp_path / "count", **changes)  # type: ignore[arg-type]
    result, events = run(folder, tmp_path / "s.db")
    assert not [e for e in scores(events) if e.same_as]
    assert result.spent["deduplicated_scores"] == 0
