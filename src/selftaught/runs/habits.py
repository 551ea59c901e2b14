"""How much improvers asked for in recorded runs: what an estimate of another run rests on."""

import msgspec

from selftaught.events import Answered, Improved, RoundEnded
from selftaught.improver import improver_names, load_improver
from selftaught.meta_utility import VALIDATION
from selftaught.store.event_store import Store

NEWEST_RUNS = 10


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """Means over recorded runs, or assumptions where `runs` is 0.

    Attributes:
        calls_per_application: of an improver that is not shipped, to a task.
        calls_per_round: of an improver to itself.
        candidates_per_round: improvers that were measured.
        prompt_tokens_per_call: of one request, however many responses it asked for.
    """

    runs: int
    calls_per_application: float
    calls_per_round: float
    candidates_per_round: float
    responses_per_call: float
    prompt_tokens_per_call: float
    tokens_per_response: float


class _Tally:
    def __init__(self) -> None:
        self.sum = 0.0
        self.times = 0

    def add(self, amount: float, times: int = 1) -> None:
        self.sum += amount
        self.times += times

    def mean(self, default: float) -> float:
        return self.sum / self.times if self.times else default


def measured_habits(store: Store, model: str, assumed: Habits) -> Habits:
    """Measure how much improvers asked a model for.

    Only the newest runs are read.

    Args:
        store: where the runs are.
        model: as after `--model`.
        assumed: taken for what was never seen, such as rounds where only `improve` was run.
    """
    shipped = {load_improver(name).hash for name in improver_names()}
    application, round_, candidates = _Tally(), _Tally(), _Tally()
    responses, prompts, answers = _Tally(), _Tally(), _Tally()
    runs = 0
    rows = [row for row in store.runs() if row.config.get("model") == model]
    for row in rows[-NEWEST_RUNS:]:
        measured: set[str] = set()
        rounds: set[int] = set()
        asked = 0
        for _, _, event in store.events(row.id, ("answered", "improved", "round_ended")):
            match event:
                case Answered():
                    asked += 1
                    responses.add(len(event.texts))
                    prompts.add(event.prompt_tokens)
                    answers.add(event.completion_tokens, len(event.texts))
                case Improved() if event.job.startswith("round/"):
                    round_.add(event.calls)
                case Improved():
                    if event.improver not in shipped:
                        application.add(event.calls)
                        if event.job.startswith(f"{VALIDATION.name}/"):
                            measured.add(event.improver)
                case RoundEnded():
                    rounds.add(event.round)
                case _:
                    pass
        runs += asked > 0
        if len(rounds) > 1:
            candidates.add(len(measured), len(rounds) - 1)
    return Habits(
        runs=runs,
        calls_per_application=application.mean(assumed.calls_per_application),
        calls_per_round=round_.mean(assumed.calls_per_round),
        candidates_per_round=candidates.mean(assumed.candidates_per_round),
        responses_per_call=responses.mean(assumed.responses_per_call),
        prompt_tokens_per_call=prompts.mean(assumed.prompt_tokens_per_call),
        tokens_per_response=answers.mean(assumed.tokens_per_response),
    )
