"""An improve job that records what its improver is told and what it tries."""

from collections import Counter
from collections.abc import Callable

import msgspec

from selftaught.events import Attempted, Requested
from selftaught.language_model import Answer, Request
from selftaught.pool import Attempt, ImproveJob
from selftaught.solution import Solution
from selftaught.store.journal import Journal
from selftaught.utility import Outcome, kind, number


def observed(
    job: ImproveJob,
    journal: Journal,
    check: Callable[[], None],
    *,
    answered: Callable[[Answer], None],
    asked: Callable[[Solution], None],
) -> ImproveJob:
    """The same job, with every score it is told and everything it tries recorded.

    Args:
        job: to be run, for the first time or anew.
        journal: of the run.
        check: raises where the run is told to stop; asked before each score.
        answered: told of each answer of the model before the improver is.
        asked: told of each program that is to be scored, after it was charged.
    """
    tried: Counter[Attempt] = Counter()

    def utility(solution: Solution) -> Outcome:
        check()
        asked(solution)
        return job.utility(solution)

    def on_score(call: int, solution: Solution, outcome: Outcome) -> None:
        journal.record_once(
            Requested(
                job=job.key,
                call=call,
                solution=solution.hash,
                outcome=kind(outcome),
                value=number(outcome, job.worst),
                calls=job.account.calls,
                responses=job.account.responses,
            )
        )

    def initial_outcome() -> Outcome:
        check()
        return job.initial_outcome()

    def ask(request: Request) -> Answer:
        answer = job.ask(request)
        answered(answer)
        return answer

    def on_attempt(attempt: Attempt) -> None:
        tried[attempt] += 1
        event = Attempted(job=job.key, what=attempt.what, detail=attempt.detail)
        journal.record_up_to(event, tried[attempt])
        job.on_attempt(attempt)

    return msgspec.structs.replace(
        job,
        utility=utility,
        initial_outcome=initial_outcome,
        ask=ask,
        on_attempt=on_attempt,
        on_score=on_score,
    )
