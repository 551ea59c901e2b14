"""Algorithm 1 of the paper: the Self-Taught Optimizer.

    Input:  seed improver I_0, language model L, meta-utility u^, rounds T
    for t = 1 to T:
        I_t <- I_{t-1}(u^, I_{t-1}, L)
    return I_T

The paper keeps the previous improver where a round fails; so does this. Whether a candidate that
did not fail becomes the improver is the `accept` rule.
"""

import functools
from collections.abc import Callable

import msgspec

from selftaught.acceptance import DEFAULT_REPEATS, Trial, Trials
from selftaught.budget import Account, Budget
from selftaught.errors import SolutionError
from selftaught.improver import ENTRY_POINT
from selftaught.meta_utility import SEALED, VALIDATION, Measured, MetaUtility
from selftaught.plain_text import shortened
from selftaught.pool import Pool
from selftaught.solution import Solution, check_program
from selftaught.utility import Returned, Scored, kind

Accept = Callable[[Measured, Measured, Callable[[], bool]], bool]
"""Whether a candidate (second) replaces the improver in force (first), by their validation, or by
asking (third) for a trial on fresh instances."""

ACCEPT: dict[str, Accept] = {
    # The paper's rule: whatever the improver returns and does not fail.
    "always": lambda current, candidate, is_better: isinstance(candidate.outcome, Scored),
    # Higher mean on the same instances and luck. Not a test of significance.
    "better": lambda current, candidate, is_better: (
        isinstance(candidate.outcome, Scored)
        and (
            not isinstance(current.outcome, Scored)
            or candidate.outcome.value > current.outcome.value
        )
    ),
    # Shown to be better by a sequential test; noise passes in one run of twenty at most.
    "significant": lambda current, candidate, is_better: (
        isinstance(candidate.outcome, Scored) and is_better()
    ),
}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: what was produced, what was decided, and the improver in force after it.

    Attributes:
        number: t, from 0 for the seed improver.
        improver: I_t.
        candidate: what I_{t-1} returned; None where it failed.
        accepted: whether the candidate became I_t.
        reason: the decision in words.
        validation: the meta-utility of I_t that the run could see.
        sealed: the meta-utility of I_t on test instances, which no improver ever meets.
        calls, responses, utility_calls: what the round's own improve job used.
        trial: of the candidate on fresh instances, where the rule held one.
    """

    number: int
    improver: Solution
    candidate: Solution | None
    accepted: bool
    reason: str
    validation: Measured
    sealed: Measured
    calls: int = 0
    responses: int = 0
    utility_calls: int = 0
    trial: Trial | None = None


def self_taught_optimizer(
    seed_improver: Solution,
    meta_utility: MetaUtility,
    pool: Pool,
    *,
    rounds: int,
    budget: Budget,
    accept: str = "always",
    accept_repeats: int = DEFAULT_REPEATS,
    on_round: Callable[[Round], None] = lambda r: None,
) -> list[Round]:
    """Run Algorithm 1 and return its rounds, the seed improver's first.

    Args:
        seed_improver: I_0.
        meta_utility: u^, on the run's tasks.
        pool: runs the jobs.
        rounds: T.
        budget: what each round may spend on the improver itself.
        accept: a key of ACCEPT.
        accept_repeats: how many repeats a trial on fresh instances may take.
        on_round: told of every round as it ends.
    """
    improver, trials = seed_improver, Trials(meta_utility, rounds=rounds, most=accept_repeats)
    history = [_round(0, improver, None, False, "the seed improver", meta_utility, Account(budget))]
    on_round(history[0])
    for t in range(1, rounds + 1):
        account = Account(budget)
        outcome = pool.improve(meta_utility.job_on_improver(improver, improver, t, account))
        candidate, reason = None, f"round failed: {kind(outcome)}"
        if isinstance(outcome, Returned):
            candidate, reason = _as_improver(outcome.source, improver)
        accepted = False
        if candidate is not None:
            current = history[-1].validation
            measured = meta_utility.measure(candidate, VALIDATION)
            is_better = functools.partial(trials.is_better, t, improver, candidate)
            accepted = ACCEPT[accept](current, measured, is_better)
            reason = _decision(accept, accepted, current, measured, trials.held.get(t))
        elif not isinstance(outcome, (Returned, Scored)):
            reason += f" ({shortened(outcome.reason, 200)})"
        if accepted and candidate is not None:
            improver = candidate
        trial = trials.held.get(t)
        one = _round(t, improver, candidate, accepted, reason, meta_utility, account, trial)
        history.append(one)
        on_round(one)
    return history


def _as_improver(source: str, current: Solution) -> tuple[Solution | None, str]:
    if source.strip() == current.source.strip():
        return None, "the improver returned its input"
    try:
        return check_program(source, ENTRY_POINT, "the returned program"), ""
    except SolutionError as error:
        return None, f"no improver came back: {error}"


def _decision(
    accept: str, accepted: bool, current: Measured, candidate: Measured, trial: Trial | None
) -> str:
    def shown(measured: Measured) -> str:
        outcome = measured.outcome
        return f"{outcome.value:.4f}" if isinstance(outcome, Scored) else kind(outcome)

    verb = "accepted" if accepted else "kept the previous improver"
    validation = f"{shown(current)} -> {shown(candidate)} on validation"
    return f"{verb} ({accept}: {f'{trial.words}; ' if trial else ''}{validation})"


def _round(
    number: int,
    improver: Solution,
    candidate: Solution | None,
    accepted: bool,
    reason: str,
    meta_utility: MetaUtility,
    account: Account,
    trial: Trial | None = None,
) -> Round:
    return Round(
        number=number,
        improver=improver,
        candidate=candidate,
        accepted=accepted,
        reason=reason,
        validation=meta_utility.measure(improver, VALIDATION),
        sealed=meta_utility.measure(improver, SEALED),
        calls=account.calls,
        responses=account.responses,
        utility_calls=account.utility_calls,
        trial=trial,
    )
