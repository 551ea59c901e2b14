"""What a recorded run says: its rounds, its spending, its failures, its best program."""

from collections.abc import Iterable, Sequence

import msgspec

from selftaught.budget import Budget, Spent
from selftaught.errors import SelftaughtError, UsageError
from selftaught.events import (
    CandidateTried,
    Evaluated,
    Improved,
    RoundEnded,
    RunEnded,
    Speculated,
    evaluation_key,
)
from selftaught.improvement import PHASE
from selftaught.meta_utility import SEALED, VALIDATION
from selftaught.permissions import SOURCE_SUFFIXES
from selftaught.runs.config import RunConfig, config_of
from selftaught.solution import Solution, check_program
from selftaught.store import queries
from selftaught.store.event_store import RunRow, Store
from selftaught.task import Task
from selftaught.utility import Outcome, Returned, Scored


class RoundView(msgspec.Struct, frozen=True, kw_only=True):
    """A round as recorded: hashes name texts of the store.

    Attributes:
        search: what it spent to find its candidate; see `spent_by_round`.
        trial: of the candidate on fresh instances, with what that spent; None where there was none.
    """

    number: int
    candidate: str | None
    improver: str
    accepted: bool
    reason: str
    validation: Outcome | None
    sealed: Outcome | None
    search: Spent = Spent()
    trial: CandidateTried | None = None


class History(msgspec.Struct, kw_only=True):
    """A recorded run in numbers.

    Attributes:
        row: id, command, status, times.
        config: what the run was a function of.
        rounds: of Algorithm 1.
        improvements: what each improver returned on the task of `improve`: name of the job's
            improver (hash), outcome, validation and sealed scores.
        calls, responses, prompt_tokens, completion_tokens, dollars: of answers that the model
            was asked for; `sources` counts all of them by where they came from.
        rejections: requests that the model did not take.
        outcomes: how scored programs ended, by kind.
        endings: how improve jobs ended, by kind; `unchanged` where the input came back.
        attempts: what programs tried and may not, by what.
        refusals: budget refusals by limit.
        speculated: what was scored before it was asked for, over all times that the run was gone
            on with; where it was killed, the time before is missing.
        audited: generations of an audit that were found to do something, by kind.
        dollars: of the calls whose price is known; `unpriced_calls` are the others.
    """

    row: RunRow
    config: RunConfig
    rounds: list[RoundView] = []
    improvements: list[Improved] = []
    calls: int = 0
    responses: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    dollars: float = 0.0
    unpriced_calls: int = 0
    model_seconds: float = 0.0
    sources: dict[str, int] = {}
    rejections: int = 0
    scored: int = 0
    outcomes: dict[str, int] = {}
    endings: dict[str, int] = {}
    attempts: dict[str, int] = {}
    refusals: dict[str, int] = {}
    speculated: Speculated = Speculated()
    audited: dict[str, int] = {}


def read_history(store: Store, run_id: str) -> History:
    """Read a run by id, unique beginning of an id, or `latest`.

    Raises:
        StoreError: no such run.
    """
    run_id = store.resolve(run_id)
    history = History(row=store.run(run_id), config=config_of(store, run_id))
    for total in queries.totals_of(store, run_id):
        _count(history, total)
    for _, _, event in store.events(run_id, ("run_ended",)):
        if isinstance(event, RunEnded):
            history.speculated = _sum(history.speculated, event.speculated)
    history.improvements = queries.improvements(store, run_id, PHASE)
    history.rounds = _rounds(store, run_id)
    return history


def _count(history: History, total: queries.Total) -> None:
    """Enter the events of one kind and label."""
    match total.kind:
        case "answered":
            history.sources[total.label] = total.events
            if total.label == "live":
                history.calls = total.events
                history.responses = total.responses
                history.prompt_tokens = total.prompt_tokens
                history.completion_tokens = total.completion_tokens
                history.cached_tokens = total.cached_tokens
                history.reasoning_tokens = total.reasoning_tokens
                history.dollars = total.dollars
                history.unpriced_calls = total.unpriced_calls
                history.model_seconds = total.seconds
        case "rejected":
            history.rejections = total.events
        case "evaluated":
            history.scored += total.events
            history.outcomes[total.label] = total.events
        case "improved":
            history.endings[total.label] = total.events
        case "attempted":
            history.attempts[total.label] = total.events
        case "budget_refused":
            history.refusals[total.label] = total.times
        case "audited":
            history.audited[total.label] = total.times
        case _:
            pass


def _rounds(store: Store, run_id: str) -> list[RoundView]:
    ended = queries.rounds(store, run_id)
    searches = spent_by_round(ended, queries.applications(store, run_id))
    trials = {
        event.round: event
        for _, _, event in store.events(run_id, ("candidate_tried",))
        if isinstance(event, CandidateTried)
    }

    def measured(improver: str, split: str) -> Outcome | None:
        event = queries.meta_utility(store, run_id, improver, split)
        return None if event is None else event.outcome

    return [
        RoundView(
            number=one.round,
            candidate=one.candidate,
            improver=one.improver,
            accepted=one.accepted,
            reason=one.reason,
            validation=measured(one.improver, VALIDATION.name),
            sealed=measured(one.improver, SEALED.name),
            search=searches[one.round],
            trial=trials.get(one.round),
        )
        for one in sorted(ended, key=lambda one: one.round)
    ]


def spent_by_round(
    ended: Sequence[RoundEnded], applications: Iterable[queries.Application]
) -> dict[int, Spent]:
    """What each round spent to find its candidate.

    That is the improver on itself, and on tasks every improver whose meta-utility was asked for.
    Trials on fresh instances, sealed measurements and held-out tasks are left out. Utility calls
    are scores of task programs: those of a meta-utility are what it consists of.

    Args:
        ended: the rounds of a run in the order of their ends.
        applications: of the same run.
    """
    found = [Spent() for _ in ended]
    for one in applications:
        on_task = one.phase == VALIDATION.name
        if one.rounds_ended < len(ended) and (on_task or one.phase == "round"):
            found[one.rounds_ended] += Spent(
                calls=one.calls,
                responses=one.responses,
                utility_calls=one.utility_calls if on_task else 0,
            )
    return {one.round: spent for one, spent in zip(ended, found, strict=True)}


def _sum(one: Speculated, other: Speculated) -> Speculated:
    return Speculated(
        begun=one.begun + other.begun,
        used=one.used + other.used,
        used_s=one.used_s + other.used_s,
        wasted_s=one.wasted_s + other.wasted_s,
    )


def export_program(store: Store, run_id: str, round_: int | None = None) -> str:
    """Return a run's result as the text of one file, with its provenance as comments on top.

    Args:
        store: where the run is.
        run_id: as for `read_history`.
        round_: of `run`, which round's improver; the last where left out.

    Raises:
        SelftaughtError: the run has no such result.
        UsageError: a round is asked of a run that has none.
    """
    history = read_history(store, run_id)
    if history.config.command == "improve":
        if round_ is not None:
            raise UsageError(
                f"Run {history.row.id} is an `improve`, which has no rounds: leave --round out."
            )
        source, facts = _best_program(store, history)
    else:
        source, facts = improver_of_round(store, history, round_)
    # One line each, whatever the command was: what follows the mark is no program.
    mark = "#" if _exported_language(history) in ("python", "text") else "//"
    lines = [f"{mark} {' '.join(line.split())}" for line in [*_provenance(history), *facts]]
    return "\n".join([*lines, "", source.strip(), ""])


def export_suffix(store: Store, run_id: str) -> str:
    """How the name of a file with a run's result must end; empty where any name will do."""
    return SOURCE_SUFFIXES.get(_exported_language(read_history(store, run_id)), "")


def _exported_language(history: History) -> str:
    """Improvers are Python; programs are in their task's language."""
    if history.config.command != "improve":
        return "python"
    return Task.load(history.config.tasks[0]).language


def _provenance(history: History) -> list[str]:
    config = history.config
    return [
        f"Made by selftaught {config.version}, run {history.row.id} ({history.row.status}).",
        f"Command: {history.row.command}",
        f"Tasks: {', '.join(config.tasks)}; seed {config.seed}; model {_model(config)}.",
        f"Improver API {config.improver_api}; budget of one application: {_told(config.budget)}.",
    ]


def _model(config: RunConfig) -> str:
    return f"{config.replay_of}, replayed from a record" if config.replay_of else config.model


def _told(budget: Budget) -> str:
    return f"{budget.calls} calls x {budget.responses} responses, {budget.utility_calls} scores"


def improver_of_round(store: Store, history: History, round_: int | None) -> tuple[str, list[str]]:
    """Return the improver in force after a round, the last where left out, and facts about it.

    Raises:
        SelftaughtError: the run has no such round.
    """
    if not history.rounds:
        raise SelftaughtError(
            f"Run {history.row.id} has no finished round to export "
            f"({history.row.status}); `selftaught resume {history.row.id}` goes on with it."
        )
    last = history.rounds[-1].number
    chosen = last if round_ is None else round_
    views = {view.number: view for view in history.rounds}
    if chosen not in views:
        raise SelftaughtError(
            f"Run {history.row.id} has rounds 0 to {last}, not {chosen}; 0 is the seed improver."
        )
    view = views[chosen]
    facts = [f"Improver after round {chosen} of {history.config.rounds}, hash {view.improver}."]
    for name, outcome in (("validation", view.validation), ("sealed test", view.sealed)):
        if isinstance(outcome, Scored):
            facts.append(
                f"Meta-utility on {name}: {outcome.value:.4f} ± {outcome.standard_error:.4f}."
            )
    return store.text(view.improver), facts


def _best_program(store: Store, history: History) -> tuple[str, list[str]]:
    task = Task.load(history.config.tasks[0])
    # As it was when it was scored, whatever it is now.
    digest = history.config.digests.get(task.name, task.digest)

    def score(program: Solution, split: str) -> Outcome | None:
        key = evaluation_key(f"{task.name}@{digest}", split, 0, program.hash)
        event = store.find(history.row.id, "evaluated", key)
        return event.outcome if isinstance(event, Evaluated) else None

    found: list[tuple[float, str, Outcome | None]] = []
    for one in history.improvements:
        if isinstance(one.outcome, Returned):
            program = task.initial.rewritten(one.outcome.source)
            if task.language == "python":
                check_program(program.source, program.entry_point, "the program")
            validation = score(program, "val")
            if isinstance(validation, Scored):
                found.append((validation.value, program.source, score(program, "test")))
    if not found:
        raise SelftaughtError(f"Run {history.row.id} found no program that can be exported.")
    value, source, sealed = max(found, key=lambda one: one[0])
    facts = [f"Utility on validation: {value:.4f}."]
    if isinstance(sealed, Scored):
        facts.append(f"Utility on sealed test: {sealed.value:.4f} ± {sealed.standard_error:.4f}.")
    return source, facts
