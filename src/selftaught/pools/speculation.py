"""Scoring ahead: the host sees an answer before the improver does, so it begins to score it.

Nothing of this changes a result. A score that is not asked for is recorded and told to nobody.
"""

import threading
from collections.abc import Callable

import msgspec

from selftaught.budget import Account
from selftaught.errors import SolutionError
from selftaught.events import Speculated
from selftaught.pool import ScoreJob, Underway
from selftaught.sandbox.candidate import without_addresses
from selftaught.solution import Solution, extract_code

# Taking the code out of an answer may parse it many times over, which holds the interpreter up.
MAX_ANSWER_CHARS = 60_000
# Scored ahead and not asked for yet: a score that is asked for later counts as reused.
MAX_UNASKED = 10_000


class Guess(msgspec.Struct, eq=False):
    """A score that may be asked for: until then it belongs to the improve job that it came of."""

    key: str
    job: ScoreJob
    wanted: bool = True
    underway: Underway | None = None

    def give_up(self) -> None:
        """Do not begin it any more; what has begun is abandoned."""
        self.wanted = False
        if self.underway is not None:
            self.underway.abandon()


class Guesses:
    """What one improve job is likely to ask for next, and how much of it it still can ask for.

    Args:
        account: of the improve job; no more is guessed than it has utility calls left.
        score_job: the job that scores a program.
        key: the name of a score job.
        is_known: whether a job's score is recorded, or being computed.
        begin: takes up a guess.
    """

    def __init__(
        self,
        account: Account,
        score_job: Callable[[Solution], ScoreJob],
        key: Callable[[ScoreJob], str],
        is_known: Callable[[ScoreJob], bool],
        begin: Callable[[Guess], None],
    ) -> None:
        self._account = account
        self._score_job = score_job
        self._key = key
        self._is_known = is_known
        self._begin = begin
        self._open: dict[str, Guess] = {}
        self._lock = threading.Lock()

    def answered(self, texts: tuple[str, ...], entry_point: str) -> None:
        """Guess that the programs in a language model's answer will be scored."""
        for text in texts:
            solution = program_in(text, entry_point)
            if solution is not None:
                self._guess(self._score_job(solution))

    def _guess(self, job: ScoreJob) -> None:
        key = self._key(job)
        with self._lock:
            left = self._account.budget.utility_calls - self._account.utility_calls
            if key in self._open or len(self._open) >= left or self._is_known(job):
                return
            guess = self._open[key] = Guess(key, job)
        self._begin(guess)

    def asked(self, solution: Solution) -> None:
        """Take note of a score that was asked for and charged: fewer are left."""
        key = self._key(self._score_job(solution))
        with self._lock:
            self._open.pop(key, None)
            left = self._account.budget.utility_calls - self._account.utility_calls
            while len(self._open) > max(0, left):
                # The last is the one that would have been asked for last.
                self._open.popitem()[1].give_up()

    def end(self) -> None:
        """Give all guesses up: the improver has ended."""
        with self._lock:
            for guess in self._open.values():
                guess.give_up()
            self._open.clear()


class Tally:
    """Counts what was scored ahead in a run, and what of it was asked for. Thread-safe.

    Of what nobody asks for it remembers the last few thousand; the others count as wasted.
    """

    def __init__(self) -> None:
        self._begun = self._used = 0
        self._used_s = self._wasted_s = 0.0
        # Seconds of what was not asked for yet; 0 where it has not ended.
        self._unasked: dict[str, float] = {}
        self._awaited: set[str] = set()
        self._lock = threading.Lock()

    def begun(self, key: str) -> None:
        """A score was begun that nobody had asked for."""
        with self._lock:
            self._begun += 1
            self._unasked[key] = 0.0
            if len(self._unasked) > MAX_UNASKED:
                self._wasted_s += self._unasked.pop(next(iter(self._unasked)))

    def took(self, key: str, seconds: float) -> None:
        """It took so long."""
        with self._lock:
            if key in self._unasked:
                self._unasked[key] = seconds
            elif key in self._awaited:
                self._awaited.discard(key)
                self._used_s += seconds
            else:
                self._wasted_s += seconds

    def given_up(self, key: str, seconds: float) -> None:
        """It was ended after so long, without an outcome: whoever asks for it computes it."""
        with self._lock:
            self._wasted_s += seconds
            self._unasked.pop(key, None)
            if key in self._awaited:
                self._awaited.discard(key)
                self._used -= 1

    def asked(self, key: str) -> bool:
        """Take note that a score was asked for; True if it was scored ahead and is first now."""
        with self._lock:
            if key not in self._unasked:
                return False
            self._used += 1
            seconds = self._unasked.pop(key)
            self._used_s += seconds
            if not seconds:
                self._awaited.add(key)
            return True

    def total(self) -> Speculated:
        """The counts so far."""
        with self._lock:
            return Speculated(
                begun=self._begun,
                used=self._used,
                used_s=self._used_s,
                wasted_s=self._wasted_s + sum(self._unasked.values()),
            )


def program_in(answer: str, entry_point: str) -> Solution | None:
    """The program that an improver gets out of an answer, as the host would admit it."""
    if len(answer) > MAX_ANSWER_CHARS:
        return None
    code = extract_code(answer)
    if not isinstance(code, str):
        return None
    try:
        return Solution.admit(without_addresses(code), entry_point)
    except SolutionError:
        return None
