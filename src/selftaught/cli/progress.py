"""Progress of a run on stderr: a live line in a terminal, plain lines elsewhere."""

import threading
import time
from typing import TYPE_CHECKING

from rich.markup import escape

import selftaught.algorithm as algorithm
import selftaught.compare as compare
import selftaught.improvement as improvement
import selftaught.transfer as transfer
from selftaught.cli.screen import MUTATION_BANNER, err, plain, shown
from selftaught.events import (
    Answered,
    AnyEvent,
    Attempted,
    Evaluated,
    Paused,
    Rejected,
    Requested,
)
from selftaught.runs.config import RunConfig, is_mutation
from selftaught.runs.result import Watch
from selftaught.solution import Solution

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """Turns events into lines. Called from many threads; each call returns at once."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._answers = self._scores = self._attempts = 0
        self._is_waiting = False
        self._best: dict[str, float] = {}
        self._lock = threading.Lock()
        self._status = _status_line() if err.is_terminal and not quiet else None

    def __enter__(self) -> "Progress":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._status is not None:
            self._status.stop()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def watch(self) -> Watch:
        """The callbacks for a run."""
        return Watch(
            on_event=self._event,
            on_round=self._round,
            on_row=self._row,
            on_improvement=self._improvement,
            on_seed=self._seed,
            on_started=self._began,
            on_step=self.say,
        )

    def say(self, text: str) -> None:
        """Print a line with the time."""
        if not self._quiet:
            err.print(f"[dim]{self.seconds:6.1f} s[/dim]  {text}")

    def _began(self, run_id: str, config: RunConfig) -> None:
        if is_mutation(config):
            err.print(f"[yellow]{MUTATION_BANNER}[/yellow]")
        tasks = plain(", ".join(config.tasks or config.held_out))
        self.say(f"run [bold]{run_id}[/bold]: {config.command} {tasks}, seed {config.seed}")

    def _event(self, event: AnyEvent) -> None:
        with self._lock:
            match event:
                case Answered():
                    self._answers += 1
                    self._is_waiting = False
                case Evaluated():
                    self._scores += 1
                case Attempted():
                    self._attempts += 1
                case Requested():
                    self._requested(event)
                case Paused():
                    self._paused(event)
                case Rejected():
                    self.say(f"[yellow]rejected[/yellow]: {plain(event.reason)}")
                case _:
                    pass
            if self._status is not None:
                refused = f", {self._attempts} refused attempts" if self._attempts else ""
                waiting = ", [yellow]waiting for the model[/yellow]" if self._is_waiting else ""
                self._status.update(
                    f"{self.seconds:.0f} s: {self._answers} calls, "
                    f"{self._scores} programs scored{refused}{waiting}"
                )

    def _paused(self, event: Paused) -> None:
        if event.what in ("model_paused", "model_resumed"):
            self._is_waiting = event.what == "model_paused"
        wait = f" ({event.seconds:.1f} s)" if event.what == "model_retry" else ""
        self.say(f"[yellow]{event.what}[/yellow]: {escape(event.detail)}{wait}")

    def _requested(self, event: Requested) -> None:
        """Show a climb: a new best of an improvement, every candidate of a round."""
        phase, _, rest = event.job.partition("/")
        if phase not in (improvement.PHASE, "round"):
            return
        best = self._best.get(event.job)
        is_better = event.outcome == "scored" and (best is None or event.value > best)
        if is_better:
            self._best[event.job] = event.value
        if phase == "round":
            mark = " [green]best so far[/green]" if is_better else ""
            told = f"{event.value:+.3f}" if event.outcome == "scored" else event.outcome
            self.say(f"round {rest}, candidate improver {event.call}: {told}{mark}")
        elif is_better:
            bar = "█" * max(1, round(40 * min(1.0, max(0.0, event.value))))
            self.say(f"call {event.calls}, score {event.call:3d}: {event.value:.4f} {bar}")

    def _round(self, one: algorithm.Round) -> None:
        self.say(
            f"[bold]round {one.number}[/bold]: validation {shown(one.validation.outcome)}, "
            f"sealed test {shown(one.sealed.outcome)}; {plain(one.reason)}"
        )

    def _seed(self, config: RunConfig, seed: compare.Seed) -> None:
        told = ", ".join(
            f"{plain(name)} {shown(seed.measured[Solution(source).hash].outcome)}"
            for name, source in config.improvers
        )
        self.say(f"seed {seed.number + 1} of {config.seeds}: {told}")

    def _row(self, table: str, row: transfer.Row) -> None:
        self.say(f"{table}, {plain(row.name)}: {shown(row.measured.outcome)}")

    def _improvement(self, one: improvement.Improvement) -> None:
        self.say(
            f"[bold]{plain(one.name)}[/bold]: validation {shown(one.validation)}, "
            f"sealed test {shown(one.sealed)}"
        )


def _status_line() -> "Status":
    from rich.status import Status

    return Status("starting", console=err)
