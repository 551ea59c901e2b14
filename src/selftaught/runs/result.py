"""What comes of a run, and who is told while it goes on."""

from collections.abc import Callable

import msgspec

import selftaught.algorithm as algorithm
import selftaught.compare as comparing
import selftaught.improvement as improvement
import selftaught.transfer as transfers
from selftaught.audit.study import Audit
from selftaught.budget import Spent
from selftaught.errors import SelftaughtError
from selftaught.events import AnyEvent, RunResumed
from selftaught.runs.config import RunConfig
from selftaught.solution import Solution
from selftaught.utility import Scored


class Run(msgspec.Struct, kw_only=True):
    """What came of a run.

    Attributes:
        id: its name in the store.
        config: what it was a function of.
        status: `done`, or `budget` where a limit of the run ended it early.
        rounds: of Algorithm 1, the seed improver's first; empty for other commands.
        searches: what each round spent to find its candidate, trials not counted.
        sealed_rows: seed and final improver and the references on the run's own tasks, sealed.
        rows: the same on held-out tasks: the transfer table.
        improvements: of `improve`, one for each improver.
        comparison: of `compare`, over the seeds that are complete; None for fewer than two.
        audit: of `audit`.
        reason: why it ended early.
        resumed: what was recorded when it was last gone on with; None where it never was.
    """

    id: str
    config: RunConfig
    status: str = "done"
    reason: str = ""
    rounds: list[algorithm.Round] = []
    searches: dict[int, Spent] = {}
    sealed_rows: list[transfers.Row] = []
    rows: list[transfers.Row] = []
    improvements: list[improvement.Improvement] = []
    comparison: comparing.Comparison | None = None
    audit: Audit | None = None
    spent: dict[str, float] = {}
    resumed: RunResumed | None = None

    @property
    def best(self) -> Solution:
        """The final improver of a run, or the best program of an improvement.

        Raises:
            SelftaughtError: the run ended before it had one.
        """
        if self.rounds:
            return self.rounds[-1].improver
        found = improvement.best(self.improvements)
        if found is None:
            raise SelftaughtError(f"Run {self.id} ended before it had a result: {self.reason}")
        return found.program

    @property
    def scores(self) -> list[float | None]:
        """Sealed meta-utility of each round's improver (None: it failed), or each program's."""
        if self.rounds:
            return [transfers.value(r.sealed) for r in self.rounds]
        return [
            one.sealed.value if isinstance(one.sealed, Scored) else None
            for one in self.improvements
        ]


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of what while a run goes on; each call must return soon.

    Attributes:
        on_event: every event, after it is recorded.
        on_round, on_improvement, on_seed: parts of the result as they are complete.
        on_row: the same for lines of the tables `sealed` and `held out`.
        on_step: how far a long part is, in words.
    """

    on_event: Callable[[AnyEvent], None] = lambda event: None
    on_round: Callable[[algorithm.Round], None] = lambda round_: None
    on_row: Callable[[str, transfers.Row], None] = lambda table, row: None
    on_improvement: Callable[[improvement.Improvement], None] = lambda one: None
    on_seed: Callable[[RunConfig, comparing.Seed], None] = lambda config, seed: None
    on_step: Callable[[str], None] = lambda words: None
    on_started: Callable[[str, RunConfig], None] = lambda run, config: None
