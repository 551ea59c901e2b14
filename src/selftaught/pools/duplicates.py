"""Programs that cannot be told apart when they run: one score counts for all of them.

Models like to answer with a program that they gave before and another comment. Where a score
follows from the code alone, it need not be computed again. It is told, charged and recorded like
any other, with the program whose score it is.

Whether two programs have the same code `selftaught.solution.same_code` says: no line number and
no column may differ, since reasons of failures hold them and a program can read them of itself.
"""

import functools
import hashlib
import re
from pathlib import Path

from selftaught.events import Evaluated
from selftaught.pool import ScoreJob
from selftaught.solution import same_code
from selftaught.store.journal import Journal

# Of programs that look alike and are not, no more are compared with a new one.
MAX_ALIKE = 8
# The oldest are forgotten, so that a long run takes no more memory than a short one.
MAX_SKETCHES = 20_000
_COMMENT = re.compile(r"#.*")
_BLANK = re.compile(r"\s+")


class Duplicates:
    """The latest programs that a run scores, by what is left of them without comments.

    Thread safety: none; the caller holds a lock.

    Args:
        journal: where the scores and the texts are.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._alike: dict[bytes, list[str]] = {}

    def add(self, job: ScoreJob) -> None:
        """Take note of a program that has a score, or is about to."""
        if not follows_from_code(job):
            return
        alike = self._alike.setdefault(_sketch(job.solution.source), [])
        if len(self._alike) > MAX_SKETCHES:
            del self._alike[next(iter(self._alike))]
        if job.solution.hash not in alike and len(alike) < MAX_ALIKE:
            alike.append(job.solution.hash)

    def alike(self, job: ScoreJob) -> list[str]:
        """The hashes of other programs that may have this one's code."""
        if not follows_from_code(job):
            return []
        alike = self._alike.get(_sketch(job.solution.source), ())
        return [other for other in alike if other != job.solution.hash]

    def score_of_one(self, job: ScoreJob) -> Evaluated | None:
        """The score, on the same instances, of another program with this one's code, or None."""
        for other in self.alike(job):
            outcome = self._journal.recorded_evaluation(job.task.key, job.split, job.repeat, other)
            if outcome is not None and same_code(job.solution.source, self._journal.text(other)):
                return Evaluated(
                    task=job.task.key,
                    solution=job.solution.hash,
                    split=job.split,
                    repeat=job.repeat,
                    outcome=outcome,
                    same_as=other,
                )
        return None


def follows_from_code(job: ScoreJob) -> bool:
    """Whether the score of a program depends on nothing but its code and the instances.

    A work limit repeats exactly, and one on time does not. And a utility that reads the program's
    text may score the comments: the word `source` anywhere in the folder's modules is taken for
    that.
    """
    return (
        job.solution.language == "python"
        and job.task.file.limits.work > 0
        and not _reads_text(job.task.folder)
    )


@functools.lru_cache(maxsize=256)
def _reads_text(folder: str) -> bool:
    return any(
        "source" in module.read_text(encoding="utf-8", errors="replace")
        for module in Path(folder).rglob("*.py")
        if module.name != "solution.py"
    )


def _sketch(source: str) -> bytes:
    """Equal for the same code, and for a few others: the lines up to `#`, without blanks.

    So a program is parsed only where there may be another with its code.
    """
    bare = _BLANK.sub("", _COMMENT.sub("", source))
    return hashlib.blake2b(bare.encode("utf-8", "surrogatepass"), digest_size=8).digest()
