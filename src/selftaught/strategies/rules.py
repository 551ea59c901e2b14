"""The strategies by name, each with the rule that recognises it in a program's text."""

import ast
from collections.abc import Callable

import msgspec

from selftaught.strategies.asking_rules import (
    bandit,
    decomposition,
    ensembles,
    personas,
    temperature_schedule,
)
from selftaught.strategies.contents import Contents
from selftaught.strategies.scoring_rules import caching, feedback
from selftaught.strategies.search_rules import (
    anneals,
    beam,
    best_of_n,
    genetic,
    refinement,
    restarts,
    tree_search,
)

Rule = Callable[[Contents], ast.AST | None]


class Strategy(msgspec.Struct, frozen=True):
    """A name of the field for a way of searching.

    Attributes:
        name: as shown.
        meaning: in one line.
        rule: returns the node that shows it, or None.
    """

    name: str
    meaning: str
    rule: Rule


STRATEGIES = (
    Strategy("best_of_n", "independent answers, the best by score is kept", best_of_n),
    Strategy("refinement", "answers go back into prompts", refinement),
    Strategy("beam", "the few best are refined side by side", beam),
    Strategy("genetic", "parents are drawn from a population and changed or crossed", genetic),
    Strategy("annealing", "worse programs are taken with a falling probability", anneals),
    Strategy("bandit", "ways of asking are chosen by what they brought", bandit),
    Strategy("tree_search", "programs are nodes, the next to expand is chosen", tree_search),
    Strategy("decomposition", "parts are improved one by one", decomposition),
    Strategy("temperature_schedule", "sampling temperature changes", temperature_schedule),
    Strategy("restarts", "the search begins again from the initial program", restarts),
    Strategy("caching", "no program is scored twice", caching),
    Strategy("ensembles", "several answers are put into one", ensembles),
    Strategy("personas", "the model's role changes", personas),
    Strategy("feedback", "scores or remarks go into prompts", feedback),
)
