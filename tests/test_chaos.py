"""kill -9 at every kind of event that a run records: the end is as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from chaos_run import CONCURRENCY, Case, Driver, Running, Whole, endpoint, result

from selftaught.events import AnyEvent, Audited

pytestmark = pytest.mark.slow

SIGNIFICANT = "--accept", "significant", "--accept-repeats", "8"
# Of an undisturbed run. The order of those of one moment differs from run to run.
KINDS = (
    "run_started", "asked", "answered", "rejected", "evaluated", "requested", "budget_refused",
    "attempted", "improved", "meta_evaluated", "candidate_tried", "round_ended", "run_ended",
)  # fmt: skip
# Those have tests of their own here; `store repair` records the last one in a store that it makes.
OTHER_KINDS = "run_resumed", "unanswered", "paused", "audited", "repaired"


def test_there_is_a_kill_at_every_kind_of_event() -> None:
    every = {str(one.__struct_config__.tag) for one in get_args(AnyEvent)}
    assert sorted((*KINDS, *OTHER_KINDS)) == sorted(every)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_around_an_event_ends_as_an_undisturbed_one(
    kind: str, driver: Driver, whole: Callable[..., Whole], tmp_path: Path
) -> None:
    expected = whole(*SIGNIFICANT)
    middle = (expected.counts[kind] + 1) // 2
    deaths = [(1, "before"), (1, "within"), (1, "after")]
    if middle > 1:
        deaths[1:] = [(1, "after"), (middle, "within"), (middle, "after")]
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        for place, (number, when) in enumerate(deaths):
            death = {"kind": kind, "number": number, "when": when}
            running = case.resume(death=death) if place else case.start(*SIGNIFICANT, death=death)
            case.killed(running)
            recorded = sum(row[3] == kind for row in case.rows)
            assert recorded == (number if when == "after" else number - 1)
        ended = case.resume().end()
        case.check(ended.document, expected)


def test_a_resumed_run_killed_at_what_only_a_resumed_run_records(
    driver: Driver, whole: Callable[..., Whole], tmp_path: Path
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        # Several requests are under way here.
        case.killed(case.start(*SIGNIFICANT, death=_at("answered", 3, "before")))
        assert case.under_way[0]
        for when in ("before", "within", "after"):
            case.killed(case.resume(death=_at("run_resumed", 1, when)))
        for when in ("before", "within", "after"):
            case.killed(case.resume(death=_at("unanswered", 1, when)))
        ended = case.resume().end()
        case.check(ended.document, whole(*SIGNIFICANT))


def test_a_run_killed_while_it_waits_for_a_model_that_is_busy(
    driver: Driver, whole: Callable[..., Whole], tmp_path: Path
) -> None:
    with endpoint() as server:
        case = Case(driver, tmp_path, server)
        case.killed(case.start(*SIGNIFICANT, death=_at("paused", 1, "before")))
        for when in ("within", "after"):
            case.killed(case.resume(death=_at("paused", 1, when)))
        ended = case.resume().end()
        case.check(ended.document, whole(*SIGNIFICANT))


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_an_audit_killed_around_an_examination_ends_as_an_undisturbed_one(
    when: str, driver: Driver, tmp_path: Path
) -> None:
    def audit(case: Case, **how: object) -> Running:
        arguments = (
            "audit", "--generations", "4", "--task", "./toy", "--slots", "2", "--json",
                "--concurrency", str(CONCURRENCY),
            "--model", "openai/x", "--base-url", case.server.url, "--store", case.store,
        )  # fmt: skip
        return driver.start(case.folder, *arguments, **how)

    with endpoint() as server, endpoint() as other:
        case, undisturbed = Case(driver, tmp_path, server), Case(driver, tmp_path / "2", other)
        expected = audit(undisturbed).end().document
        case.killed(audit(case, death=_at("audited", 1, when)))
        case.killed(case.resume(death=_at("audited", 2, when)))
        document = case.resume().end().document
        case.check_requests()
    assert document["audit"]
    assert result(document) == result(expected)
    examined = [one.program for one in case.events() if isinstance(one, Audited)]
    assert len(set(examined)) == len(examined) >= 2


def _at(kind: str, number: int, when: str) -> dict[str, object]:
    return {"kind": kind, "number": number, "when": when}
