"""A pool whose improve jobs are spans of the run."""

from selftaught.models.tracing import Tracing, ended
from selftaught.pool import AheadPool, Claim, ImproveJob, ScoreJob
from selftaught.utility import Outcome, kind


class TracedPool:
    """Implements `selftaught.pool.AheadPool` over another, with a span for each improve job."""

    def __init__(self, pool: AheadPool, tracing: Tracing) -> None:
        self._pool = pool
        self._tracing = tracing

    @property
    def slots(self) -> int:
        """Jobs that compute at once."""
        return self._pool.slots

    def score(self, job: ScoreJob) -> Outcome:
        """Score a program; there are too many for a span each."""
        return self._pool.score(job)

    def score_ahead(self, job: ScoreJob, claim: Claim) -> Outcome | None:
        """Score what nobody has asked for yet."""
        return self._pool.score_ahead(job, claim)

    def improve(self, job: ImproveJob) -> Outcome:
        """Run an improver within a span."""
        with self._tracing.job(job) as span:
            outcome = self._pool.improve(job)
            ended(span, kind(outcome))
            return outcome

    def close(self) -> None:
        """Close the pool beneath."""
        self._pool.close()
