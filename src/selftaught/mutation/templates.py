"""Higher-order templates: changes to how an improver searches, rather than to what it computes.

They are general, recognised by shape and not by name (see `selftaught.mutation.shape`), and can be
switched off as a whole: `MutationProposer(templates=False)`.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from selftaught.mutation import templates_loops, templates_sites
from selftaught.mutation.draft import Draft
from selftaught.mutation.shape import Shape


class Template(NamedTuple):
    """One higher-order change.

    Attributes:
        edit: changes a draft of the given shape in place and returns True, or returns False.
        weight: how often it is tried, relative to the others.
        words: what it did, for the answer's sentence.
    """

    edit: Callable[[Draft, Shape, Random], bool]
    weight: float
    words: str


TEMPLATES: tuple[Template, ...] = (
    Template(templates_sites.keep_incumbent, 6, "kept the incumbent among the candidates"),
    Template(templates_loops.climb, 5, "repeated the search from the best solution so far"),
    Template(templates_loops.climb_inside, 5, "turned the search into hill climbing"),
    Template(templates_loops.iterate, 4, "repeated the search on its own result"),
    Template(templates_loops.restart, 2, "restarted from the initial solution"),
    Template(templates_loops.keep_top, 2, "kept the best few solutions as parents"),
    Template(templates_loops.use_whole_budget, 3, "went on until the budget is spent"),
    Template(templates_loops.stop_early, 0.5, "stopped when nothing changed"),
    Template(templates_loops.unwrap, 1, "dropped the outermost loop"),
    Template(templates_loops.fall_back, 1, "returned the given solution upon failure"),
    Template(templates_sites.spread_request, 3, "spread a request over several"),
    Template(templates_sites.vary_constant, 2, "varied a constant between requests"),
    Template(templates_sites.remember_scores, 3, "remembered scores"),
    Template(templates_sites.guard_candidates, 2, "guarded the choice of candidates"),
)
