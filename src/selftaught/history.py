"""What a recorded run says: its rounds, its spending, its failures, its best program."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from selftaught.budget import Budget, Spent
from selftaught.errors import SelftaughtError
from selftaught.events import (
    Answered,
    AnyEvent,
    Attempted,
    BudgetRefused,
    CandidateTried,
    Evaluated,
    Improved,
    MetaEvaluated,
    RoundEnded,
)
from selftaught.improvement import PHASE
from selftaught.meta_utility import SEALED, VALIDATION
from selftaught.runs.config import RunConfig, config_of
from selftaught.solution import check_program
from selftaught.store.event_store import RunRow, Store
from selftaught.task import Task
from selftaught.utility import Outcome, Returned, Scored, kind

SPENT_ON = ("improved", "round_ended")


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
        outcomes: how scored programs ended, by kind.
        endings: how improve jobs ended, by kind; `unchanged` where the input came back.
        attempts: what programs tried and may not, by what.
        refusals: budget refusals by limit.
    """

    row: RunRow
    config: RunConfig
    rounds: list[RoundView] = []
    improvements: list[Improved] = []
    calls: int = 0
    responses: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    model_seconds: float = 0.0
    scored: int = 0
    outcomes: dict[str, int] = {}
    endings: dict[str, int] = {}
    attempts: dict[str, int] = {}
    refusals: dict[str, int] = {}


def read_history(store: Store, run_id: str) -> History:
    """Read a run by id, unique beginning of an id, or `latest`.

    Raises:
        StoreError: no such run.
    """
    run_id = store.resolve(run_id)
    (row,) = [row for row in store.runs() if row.id == run_id]
    history = History(row=row, config=config_of(store, run_id))
    outcomes: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    measured: dict[tuple[str, str], Outcome] = {}
    rounds: dict[int, RoundEnded] = {}
    trials: dict[int, CandidateTried] = {}
    for _, _, event in store.events(run_id):
        match event:
            case Answered():
                history.calls += 1
                history.responses += len(event.texts)
                history.prompt_tokens += event.prompt_tokens
                history.completion_tokens += event.completion_tokens
                history.dollars += event.dollars or 0.0
                history.model_seconds += event.seconds
            case Evaluated():
                history.scored += 1
                outcomes[kind(event.outcome)] += 1
            case Improved():
                endings["unchanged" if event.unchanged else kind(event.outcome)] += 1
                if event.job.startswith(f"{PHASE}/"):
                    history.improvements.append(event)
            case Attempted():
                attempts[event.what] += 1
            case BudgetRefused():
                refusals[event.limit] += event.times
            case MetaEvaluated():
                measured[event.improver, event.split] = event.outcome
            case CandidateTried():
                trials[event.round] = event
            case RoundEnded():
                rounds[event.round] = event
            case _:
                pass
    history.outcomes, history.endings = dict(outcomes), dict(endings)
    history.attempts, history.refusals = dict(attempts), dict(refusals)
    searches = spent_by_round(event for _, _, event in store.events(run_id, SPENT_ON))
    history.rounds = [
        RoundView(
            number=one.round,
            candidate=one.candidate,
            improver=one.improver,
            accepted=one.accepted,
            reason=one.reason,
            validation=measured.get((one.improver, VALIDATION.name)),
            sealed=measured.get((one.improver, SEALED.name)),
            search=searches.get(one.round, Spent()),
            trial=trials.get(one.round),
        )
        for _, one in sorted(rounds.items())
    ]
    return history


def spent_by_round(events: Iterable[AnyEvent]) -> dict[int, Spent]:
    """What each round spent to find its candidate.

    That is the improver on itself, and on tasks every improver whose meta-utility was asked for.
    Trials on fresh instances, sealed measurements and held-out tasks are left out. Utility calls
    are scores of task programs: those of a meta-utility are what it consists of.

    Args:
        events: of one run, in order, of the kinds SPENT_ON at least.
    """
    found: dict[int, Spent] = {}
    under_way: dict[str, Spent] = {}
    for event in events:
        match event:
            case Improved() if event.job.partition("/")[0] in ("round", VALIDATION.name):
                on_task = event.job.startswith(VALIDATION.name)
                # A job that was killed and ran again counts once.
                under_way[event.job] = Spent(
                    calls=event.calls,
                    responses=event.responses,
                    utility_calls=event.utility_calls if on_task else 0,
                )
            case RoundEnded():
                found.setdefault(event.round, sum(under_way.values(), Spent()))
                under_way = {}
            case _:
                pass
    return found


def export_program(store: Store, run_id: str, round_: int | None = None) -> str:
    """Return a run's result as the text of one file, with its provenance as comments on top.

    Args:
        store: where the run is.
        run_id: as for `read_history`.
        round_: of `run`, which round's improver; the last where left out.

    Raises:
        SelftaughtError: the run has no such result.
    """
    history = read_history(store, run_id)
    if history.config.command == "improve":
        source, facts = _best_program(store, history)
    else:
        source, facts = improver_of_round(store, history, round_)
    lines = [f"# {line}" for line in [*_provenance(history), *facts]]
    return "\n".join([*lines, "", source.strip(), ""])


def _provenance(history: History) -> list[str]:
    config = history.config
    return [
        f"Made by selftaught {config.version}, run {history.row.id} ({history.row.status}).",
        f"Command: {history.row.command}",
        f"Tasks: {', '.join(config.tasks)}; seed {config.seed}; model {config.model}.",
        f"Improver API {config.improver_api}; budget of one application: {_told(config.budget)}.",
    ]


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
    scores: dict[str, dict[str, Outcome]] = {}
    for _, _, event in store.events(history.row.id, kinds=("evaluated",)):
        if isinstance(event, Evaluated) and event.repeat == 0:
            scores.setdefault(event.solution, {})[event.split] = event.outcome
    found: list[tuple[float, str, Outcome | None]] = []
    for one in history.improvements:
        if isinstance(one.outcome, Returned):
            program = check_program(one.outcome.source, task.initial.entry_point, "the program")
            by_split = scores.get(program.hash, {})
            validation = by_split.get("val")
            if isinstance(validation, Scored):
                found.append((validation.value, program.source, by_split.get("test")))
    if not found:
        raise SelftaughtError(f"Run {history.row.id} found no program that can be exported.")
    value, source, sealed = max(found, key=lambda one: one[0])
    facts = [f"Utility on validation: {value:.4f}."]
    if isinstance(sealed, Scored):
        facts.append(f"Utility on sealed test: {sealed.value:.4f} ± {sealed.standard_error:.4f}.")
    return source, facts
