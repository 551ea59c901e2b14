"""A recorded run read back: the same computation, with everything looked up and nothing done.

So a report shows what the run itself showed, by the same code, down to the last digit.
"""

from collections.abc import Sequence
from contextlib import suppress

from selftaught.errors import NotRecorded
from selftaught.events import AnyEvent
from selftaught.language_model import Answer, Request
from selftaught.models.broker import Broker
from selftaught.pool import ImproveJob, ScoreJob
from selftaught.pools.recorded import RecordedPool
from selftaught.runs.config import check_digests, config_of
from selftaught.runs.execution import Execution
from selftaught.runs.result import Run, Watch
from selftaught.store.event_store import Store
from selftaught.store.journal import Journal
from selftaught.utility import Outcome


def recall(store: Store, run_id: str) -> Run:
    """Return what came of a run as far as it is recorded.

    Args:
        store: open for reading.
        run_id: its full id.

    Raises:
        StoreError: no such run.
        SelftaughtError: a task changed since, so that its recorded scores mean something else.
    """
    config = config_of(store, run_id)
    check_digests(config, run_id)
    row = store.run(run_id)
    result = Run(id=run_id, config=config, status=row.status, reason=row.reason)
    execution = Execution(config, Watch(), None, {}, _Silent())
    journal = _ReadJournal(store, run_id)
    broker = Broker(execution.model, journal, execution.account, lambda: None, execution.tariff)
    # Where the record ends, what is complete is in the result.
    with suppress(NotRecorded):
        execution.do(result, RecordedPool(_Idle(), journal, lambda: None), broker, journal)
    return result


class _ReadJournal(Journal):
    """Looks up and keeps nothing: what a run records on its way is recorded already."""

    def record(self, event: AnyEvent, texts: Sequence[str] = ()) -> None:
        pass


class _Idle:
    """A pool without a machine."""

    slots = 1

    def score(self, job: ScoreJob) -> Outcome:
        raise NotRecorded(f"The score of program {job.solution.hash} is not recorded.")

    def improve(self, job: ImproveJob) -> Outcome:
        raise NotRecorded(f"The improve job {job.key} is not recorded.")

    def close(self) -> None:
        pass


class _Silent:
    """A language model that is not there."""

    name = "recorded"
    is_language_model = False

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        raise NotRecorded(f"The exchange {key} is not recorded.")
