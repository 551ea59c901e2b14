"""The first-order operators, in one tuple."""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, Protocol, TypeVar

from selftaught.mutation import edits_expressions, edits_statements, edits_values
from selftaught.mutation.draft import Draft


class Operator(NamedTuple):
    """One kind of edit.

    Attributes:
        edit: changes a draft in place and returns True, or returns False where it does not fit.
        weight: how often it is tried, relative to the others.
        words: what it did, for the answer's sentence.
    """

    edit: Callable[[Draft, Random], bool]
    weight: float
    words: str


# Weighted by how often an edit helps in general: swapped arithmetic, shrunk expressions and
# changed constants lead in published studies of program mutation and in trials here.
FIRST_ORDER: tuple[Operator, ...] = (
    Operator(edits_values.change_constant, 16, "changed a numeric constant"),
    Operator(edits_values.change_loop_bound, 7, "changed the bound of a loop"),
    Operator(edits_values.swap_arithmetic, 11, "swapped an arithmetic operator"),
    Operator(edits_values.swap_comparison, 6, "swapped a comparison"),
    Operator(edits_values.swap_boolean, 3, "changed a condition's logic"),
    Operator(edits_values.change_augmented_assignment, 3, "changed how a variable is updated"),
    Operator(edits_values.wrap_number, 2, "took an absolute or negative value"),
    Operator(edits_values.scale_number, 6, "scaled or shifted a number"),
    Operator(edits_values.change_slice, 2, "changed a slice"),
    Operator(edits_values.hoist_constant, 1, "used one constant in two places"),
    Operator(edits_expressions.change_sibling_call, 5, "called a related function"),
    Operator(edits_expressions.replace_variable, 8, "read another variable"),
    Operator(edits_expressions.replace_expression, 7, "replaced an expression"),
    Operator(edits_expressions.shrink_expression, 12, "shrank an expression"),
    Operator(edits_expressions.swap_arguments, 3, "swapped two arguments"),
    Operator(edits_expressions.change_key_function, 3, "changed what is ordered by"),
    Operator(edits_expressions.apply_twice, 2, "applied a function twice"),
    Operator(edits_expressions.change_range, 3, "changed a range"),
    Operator(edits_statements.delete_statement, 4, "deleted a statement"),
    Operator(edits_statements.duplicate_statement, 2, "doubled a statement"),
    Operator(edits_statements.swap_statements, 4, "swapped two statements"),
    Operator(edits_statements.move_statement, 3, "moved a statement"),
    Operator(edits_statements.graft_statement, 2, "copied a statement elsewhere"),
    Operator(edits_statements.exit_early, 2, "left a loop early"),
    Operator(edits_statements.guard_statement, 3, "put a statement under a condition"),
    Operator(edits_statements.remove_branch, 3, "removed a branch"),
    Operator(edits_statements.reverse_loop, 2, "reversed a loop"),
    Operator(edits_statements.bound_while, 1, "bounded a while loop"),
    Operator(edits_statements.repeat_statement, 4, "repeated a statement in a loop"),
    Operator(edits_statements.keep_best_of_retries, 4, "kept the best of several tries"),
    Operator(edits_statements.cross_statement, 6, "took a statement from another version"),
    Operator(edits_statements.cross_function, 3, "took a function from another version"),
)


class Weighted(Protocol):
    """Something drawn by weight."""

    @property
    def weight(self) -> float:
        """How often it is drawn, relative to the others."""
        ...


W = TypeVar("W", bound=Weighted)


def draw(choices: Sequence[W], random: Random) -> W:
    """Return one of several choices, with a chance in proportion to its weight."""
    mark = random.random() * sum(choice.weight for choice in choices)
    for choice in choices:
        mark -= choice.weight
        if mark < 0:
            return choice
    return choices[-1]
