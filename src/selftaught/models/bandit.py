"""Several models as one: each call goes to the one that promises most for its money.

A budgeted Thompson sampling bandit (Xia et al., "Thompson Sampling for Budgeted Multi-Armed
Bandits", IJCAI 2015). For each model it keeps a distribution of the reward and one of the cost of
a call, draws from both, and asks the model with the largest ratio. Rewards and costs lie between 0
and 1 and are added to the distributions as they are, where the paper tosses a coin for each.

The state is a fold over the events of the run and nothing else. A resumed run folds what is
recorded and goes on where it was.
"""

import hashlib
import random
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

import msgspec

from selftaught.events import Answered, AnyEvent, Improved, Requested
from selftaught.language_model import Answer, LanguageModel, Request
from selftaught.models.lost import announces_requests

OBSERVED = ("answered", "requested", "improved")
_ROUND = "round"


class Arm(msgspec.Struct):
    """What is known of one model.

    Attributes:
        answers: calls that it answered.
        tokens, dollars: what they cost; of dollars only where `unpriced` is 0.
        unpriced: answers whose price is not known.
        rewarded: answers whose programs were scored.
        reward: the sum of their rewards.
    """

    answers: int = 0
    tokens: int = 0
    dollars: float = 0.0
    unpriced: int = 0
    rewarded: int = 0
    reward: float = 0.0


class _Window(msgspec.Struct):
    """The answers that a job had since its last score, and the best score since them."""

    models: list[str] = []
    best: float | None = None


class Ledger:
    """The state of a bandit: a fold over events. Not thread-safe.

    The answers that an improve job gets before it asks for the next score share what the scores
    bring until its next answer. Their reward is the share of earlier such windows, at the same
    place of the run and of whatever model, whose best score is lower; equal ones count as a half.
    So tasks of any scale can be compared, and no score of the initial program is needed.

    Args:
        names: the models.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.arms = {name: Arm() for name in names}
        self._open: dict[str, _Window] = {}
        self._bests: dict[str, list[float]] = {}

    def add(self, event: AnyEvent) -> None:
        """Take in an event; those that say nothing about models are ignored."""
        match event:
            case Answered():
                self._answered(event)
            case Requested() if event.outcome == "scored":
                window = self._open.get(event.job)
                if window is not None:
                    window.best = (
                        event.value if window.best is None else max(window.best, event.value)
                    )
            case Improved():
                self._close(event.job)
            case _:
                pass

    def costs(self) -> dict[str, tuple[float, int]]:
        """Each model's cost between 0 and 1, summed over so many calls.

        In dollars where all prices are known and something costs anything, else in tokens. The
        model whose calls cost most on average has 1 a call.
        """
        asked = [arm for arm in self.arms.values() if arm.answers]
        in_dollars = not any(arm.unpriced for arm in asked) and any(arm.dollars for arm in asked)
        spent = {
            name: arm.dollars if in_dollars else float(arm.tokens)
            for name, arm in self.arms.items()
        }
        dearest = max(
            (spent[name] / arm.answers for name, arm in self.arms.items() if arm.answers),
            default=0.0,
        )
        return {
            name: (spent[name] / dearest if dearest else float(arm.answers), arm.answers)
            for name, arm in self.arms.items()
        }

    def choose(self, luck: random.Random) -> str:
        """Draw for each model what it brings and costs, and return the one that is worth most."""
        costs = self.costs()

        def worth(name: str) -> float:
            arm, (cost, answers) = self.arms[name], costs[name]
            brings = luck.betavariate(1 + arm.reward, 1 + arm.rewarded - arm.reward)
            takes = luck.betavariate(1 + cost, 1 + max(0.0, answers - cost))
            return brings / max(takes, 1e-9)

        return max({name: worth(name) for name in self.arms}.items(), key=lambda one: one[1])[0]

    def _answered(self, event: Answered) -> None:
        arm = self.arms.get(event.model)
        if arm is None:
            return
        arm.answers += 1
        arm.tokens += event.prompt_tokens + event.completion_tokens
        arm.dollars += event.dollars or 0.0
        arm.unpriced += event.dollars is None
        window = self._open.get(event.job)
        if window is not None and window.best is not None:
            self._close(event.job)
        self._open.setdefault(event.job, _Window()).models.append(event.model)

    def _close(self, job: str) -> None:
        window = self._open.pop(job, None)
        if window is None:
            return
        earlier = self._bests.setdefault(_place(job), [])
        if window.best is None:
            # Nothing that can be scored came of it, which is worse than any score.
            reward = 0.0
        elif earlier:
            below, equal = bisect_left(earlier, window.best), bisect_right(earlier, window.best)
            reward = (below + equal) / 2 / len(earlier)
        else:
            reward = 0.5
        if window.best is not None:
            insort(earlier, window.best)
        for name in window.models:
            self.arms[name].rewarded += 1
            self.arms[name].reward += reward


class BanditModel:
    """Implements `selftaught.language_model.LanguageModel` over others, which it closes.

    Thread safety: as that of its parts; `observe` may be called from any thread.
    Determinism: which part answers follows from the arguments and the events so far. Their order
    differs from run to run, so improvers that are compared do not meet the same models.

    Args:
        name: as after `--model`.
        models: at least one.
    """

    def __init__(self, name: str, models: Sequence[LanguageModel]) -> None:
        self.name = name
        self.is_language_model = any(model.is_language_model for model in models)
        self.announces_requests = all(map(announces_requests, models))
        self._models = {model.name: model for model in models}
        self._ledger = Ledger(list(self._models))
        self._lock = threading.Lock()

    def observe(self, event: AnyEvent) -> None:
        """Learn from an event of the run; each is to be told once, in order."""
        with self._lock:
            self._ledger.add(event)

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Hand the request to the model that is drawn for it; the answer says which.

        Raises:
            ModelError: as that model does.
        """
        text = f"bandit|{seed}|{request.content_hash}|{occurrence}"
        luck = random.Random(hashlib.sha256(text.encode()).digest())
        with self._lock:
            model = self._models[self._ledger.choose(luck)]
        answer = model.respond(request, seed=seed, occurrence=occurrence, key=key)
        # By the name it was chosen by, whatever it calls itself: that is what is learned from.
        return msgspec.structs.replace(answer, model=model.name)

    def close(self) -> None:
        """Close the models that can be closed."""
        for model in self._models.values():
            close = getattr(model, "close", None)
            if close is not None:
                close()


def _place(job: str) -> str:
    """What a job has in common with those of other improvers at the same place of the run."""
    phase, _, rest = job.partition("/")
    return _ROUND if phase == _ROUND else f"{phase}/{rest.partition('/')[2]}"
