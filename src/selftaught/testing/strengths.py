"""Scripted models of three strengths: strong, middling, weak. They are no language models.

Each reads the program in the prompt, has an idea, and writes the whole program down again, as a
language model does. What sets them apart is

- how often the idea is a strategy of search that they know, where the program is an improver;
  otherwise it is a small change to one number;
- how often they slip in a line while they write it down: a line is lost, a number or a comparison
  changes, a loop runs once, the worst is kept instead of the best.

Nothing here knows a score, a task or an answer. Whether a proposal is any good is found out where
it runs.
"""

import hashlib
import re
import threading
from collections.abc import Callable
from random import Random

import msgspec

from selftaught.improver import ENTRY_POINT, load_improver
from selftaught.language_model import Answer, Request
from selftaught.mutation.prompt import read_programs

# See `selftaught.mutation.proposer`: CPython 3.11 may raise where several threads parse at once.
_PARSING = threading.Lock()
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
_LARGEST_STEP = 4
# The chance that a line which offers no other slip is lost; else it is written as it was.
_LOST = 0.2


class Strength(msgspec.Struct, frozen=True, kw_only=True):
    """What a scripted model can do.

    Attributes:
        name: of the model.
        knows: shipped improvers that it can write from memory.
        recalls: the chance that, asked to better an improver, it writes one of these.
        slips: the chance of a slip in each line that it writes.
    """

    name: str
    knows: tuple[str, ...]
    recalls: float
    slips: float


STRONG = Strength(
    name="scripted-strong", knows=("best_of_n", "greedy", "beam"), recalls=0.6, slips=0.002
)
MIDDLING = Strength(name="scripted-middling", knows=("best_of_n", "iid"), recalls=0.3, slips=0.03)
WEAK = Strength(name="scripted-weak", knows=(), recalls=0.0, slips=0.3)


class StrengthModel:
    """A scripted model of some strength; implements `selftaught.language_model.LanguageModel`.

    Thread safety: `respond` may be called from many threads; nothing is kept between calls.
    Determinism: response i depends on the request but for its number of responses, on the seed,
    and on `occurrence + i`.

    Args:
        strength: STRONG, MIDDLING, WEAK, or another one.
    """

    is_language_model = True

    def __init__(self, strength: Strength) -> None:
        self.name = strength.name
        self.strength = strength

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return one text per response: a sentence, and the program in a fence."""
        with _PARSING:
            program = read_programs(request.message).program
        if program is None:
            return Answer(texts=("I see no program.",) * request.n_responses)
        texts = []
        for place in range(occurrence, occurrence + request.n_responses):
            stem = f"{self.name}|{request.content_hash}|{seed}|{place}"
            random = Random(int.from_bytes(hashlib.sha256(stem.encode()).digest(), "big"))
            said = written(idea(program, self.strength, random), self.strength, random)
            texts.append(f"Here is my version.\n\n```python\n{said}\n```\n")
        return Answer(texts=tuple(texts))


def idea(program: str, strength: Strength, random: Random) -> str:
    """What the model means to write: a strategy that it knows, or one number changed a little."""
    is_improver = f"def {ENTRY_POINT}(" in program
    if is_improver and strength.knows and random.random() < strength.recalls:
        return load_improver(random.choice(strength.knows)).source.strip()
    return _step(program, random)


def written(program: str, strength: Strength, random: Random) -> str:
    """The program as the model writes it down: line by line, with its slips."""
    lines: list[str] = []
    for line in program.splitlines():
        slips = bool(line.strip()) and random.random() < strength.slips
        kept = slip(line, random) if slips else line
        if kept is not None:
            lines.append(kept)
    return "\n".join(lines)


def slip(line: str, random: Random) -> str | None:
    """The line with one slip in it, or None where it is lost. Some lines forgive every slip."""
    fitting = [changed for change in _SLIPS if (changed := change(line, random)) != line]
    if fitting:
        return random.choice(fitting)
    return None if random.random() < _LOST else line


def _step(program: str, random: Random) -> str:
    numbers = list(_NUMBER.finditer(program))
    if not numbers:
        return program
    found = random.choice(numbers)
    step = random.choice((-1, 1)) * random.randint(1, _LARGEST_STEP)
    text = found.group()
    value = f"{float(text) * (1 + step / 10):.3g}" if "." in text else str(int(text) + step)
    return program[: found.start()] + value + program[found.end() :]


def _other_number(line: str, random: Random) -> str:
    value = str(random.choice((0, 1, -1, 100)))
    return _NUMBER.sub(lambda found: value, line, count=1)


def _replaced(pattern: str, by: str) -> Callable[[str, Random], str]:
    return lambda line, random: re.sub(pattern, by, line, count=1)


_SLIPS: tuple[Callable[[str, Random], str], ...] = (
    _other_number,
    _replaced(r"\bmax\(", "min("),
    _replaced(r", key=[\w.]+\)", ")"),
    _replaced(r"\] \* \w+", "]"),
    _replaced(r"range\([^()]+\)", "range(1)"),
    _replaced(r" < ", " > "),
    _replaced(r"\bnot in\b", "in"),
    _replaced(r"^\{(?:program|initial_solution)\}$", "..."),
)
