"""The mutation proposer: random program mutation behind the language model's interface.

It is no language model. It knows no task and stores no answer: it reads the program in the prompt,
edits it at random, and answers as a model would, so that everything around it can be run, tested
and repeated without a key or a network.
"""

import ast
import hashlib
import math
import threading
from collections import OrderedDict
from functools import cached_property
from random import Random
from typing import NamedTuple

from selftaught.language_model import Answer, Request
from selftaught.mutation.draft import Draft
from selftaught.mutation.operators import FIRST_ORDER, draw
from selftaught.mutation.prompt import Programs, read_programs
from selftaught.mutation.screen import MOST_CHARS, Screen
from selftaught.mutation.shape import find_shape
from selftaught.mutation.syntax import parse
from selftaught.mutation.templates import TEMPLATES
from selftaught.solution import PARSING

_ATTEMPTS = 16
# Answers kept, of 1 to 8 kB each.
_REMEMBERED = 5_000
_TRIES_PER_EDIT = 12
_MOST_EDITS = 6
# The share of proposals that begin with a template, and of their further edits that are one, where
# a program has the shape for them.
_TEMPLATE_SHARE = 0.4
# From this size on, a proposal that grows is given up ever more often, at MOST_CHARS always.
_PLENTY_OF_CHARS = 2_500


class Proposal(NamedTuple):
    """A program that passed the screen, and what was done to it; no edits where none passed."""

    source: str
    edits: tuple[str, ...]


class MutationProposer:
    """Answers requests with mutated programs; implements `LanguageModel`.

    Thread safety: what it holds between calls is a store of answers it gave, behind a lock.
    Determinism: response i depends on the message, the temperature, the seed and `occurrence + i`,
    and on nothing else.

    Attributes:
        name: `mutation`, or `mutation-first-order` without templates.
        is_language_model: False.
    """

    def __init__(self, templates: bool = True) -> None:
        """Make a proposer.

        Args:
            templates: whether programs of an improver's shape are also changed by higher-order
                templates; first-order operators are always in use.
        """
        self.name = "mutation" if templates else "mutation-first-order"
        self.is_language_model = False
        self._templates = templates
        self._given: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def respond(self, request: Request, *, seed: int, occurrence: int, key: str) -> Answer:
        """Return `request.n_responses` mutations of the program in the message.

        Each is a sentence that names the edits, and the program in a fence. Where the message
        holds no program, it is a sentence that says so. `key` is not used; nothing is raised.
        """
        workshop: Workshop | None = None
        temperature = _usable(request.temperature)
        stem = hashlib.sha256(request.message.encode("utf-8", "surrogatepass"))
        stem.update(f"|{temperature!r}|{seed}|".encode())
        texts = []
        for number in range(occurrence, occurrence + request.n_responses):
            digest = stem.copy()
            digest.update(str(number).encode())
            name = digest.digest()
            text = self._recall(name)
            if text is None:
                random = Random(int.from_bytes(name, "big"))
                with PARSING:
                    if workshop is None:
                        programs = read_programs(request.message)
                        workshop = Workshop(programs, templates=self._templates)
                    text = _text(workshop.propose(random, temperature))
                self._remember(name, text)
            texts.append(text)
        return Answer(texts=tuple(texts))

    def _recall(self, name: bytes) -> str | None:
        """An answer given before: improvers that are compared ask the same questions."""
        with self._lock:
            if name in self._given:
                self._given.move_to_end(name)
            return self._given.get(name)

    def _remember(self, name: bytes, text: str) -> None:
        with self._lock:
            self._given[name] = text
            while len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)


class Workshop:
    """One prompt's program, ready to be edited any number of times."""

    def __init__(self, programs: Programs, *, templates: bool = True) -> None:
        """Take up the programs of a prompt."""
        self._program = programs.program
        self._donor_texts = programs.donors
        self._templates = templates
        self._screen: Screen | None = None
        if programs.program is not None:
            try:
                self._screen = Screen(programs.program, programs.donors)
            except ValueError:
                self._program = None

    def propose(self, random: Random, temperature: float) -> Proposal | None:
        """Return an edited program, the program itself where no edit passed, None without one."""
        screen = self._screen
        if screen is None:
            return None
        number = _number_of_edits(random, temperature)
        begins_high = random.random() < _TEMPLATE_SHARE
        for _ in range(_ATTEMPTS):
            draft = Draft(screen.draft(), self._donors)
            edits = self._edit(draft, random, number, begins_high=begins_high)
            source = screen.judge(draft.tree).source if edits else None
            if source is not None and not _is_too_much(screen.source, source, random):
                return Proposal(source, edits)
        return Proposal(screen.source, ())

    @cached_property
    def _donors(self) -> tuple[ast.Module, ...]:
        trees = (parse(text) for text in self._donor_texts)
        return tuple(tree for tree in trees if tree is not None)

    def _edit(
        self, draft: Draft, random: Random, wanted: int, *, begins_high: bool
    ) -> tuple[str, ...]:
        """Apply so many edits to a draft and return what they did, in words."""
        done: list[str] = []
        for _ in range(_TRIES_PER_EDIT * wanted):
            is_high = random.random() < _TEMPLATE_SHARE if done else begins_high
            words = self._edit_once(draft, random, is_high=is_high)
            if words:
                done.append(words)
                if len(done) == wanted:
                    break
                draft.refresh()
        return tuple(done)

    def _edit_once(self, draft: Draft, random: Random, *, is_high: bool) -> str:
        if self._templates and is_high:
            shape = find_shape(draft)
            if shape is not None:
                template = draw(TEMPLATES, random)
                return template.words if template.edit(draft, shape, random) else ""
        operator = draw(FIRST_ORDER, random)
        return operator.words if operator.edit(draft, random) else ""


def _number_of_edits(random: Random, temperature: float) -> int:
    """One edit, and another one with a chance that grows with the temperature, and so on."""
    number = 1
    while number < _MOST_EDITS and random.random() < min(0.75, 0.45 * temperature):
        number += 1
    return number


def _is_too_much(before: str, after: str, random: Random) -> bool:
    excess = (len(after) - _PLENTY_OF_CHARS) / (MOST_CHARS - _PLENTY_OF_CHARS)
    return len(after) > len(before) and random.random() < excess


def _usable(temperature: float) -> float:
    return min(2.0, max(0.0, temperature)) if math.isfinite(temperature) else 0.0


def _text(proposal: Proposal | None) -> str:
    """Word a proposal as an answer."""
    if proposal is None:
        return "There is no Python program with a function in this prompt, so nothing was edited."
    if not proposal.edits:
        said = "No edit tried on this program passed the checks, so here it is unchanged."
    else:
        what = ", then ".join(proposal.edits)
        said = f"A random mutation of the program, not a considered one: {what}."
    return f"{said}\n\n```python\n{proposal.source}\n```"
