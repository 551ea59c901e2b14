"""All recipes, by name."""

from selftaught.errors import UsageError
from selftaught.runs.reproduce.learning import LEARNING, SMALLER, WITHHELD
from selftaught.runs.reproduce.recipe import Recipe
from selftaught.runs.reproduce.tables import CHAIN_OF_THOUGHT, GREEDY, TRANSFER, UNSANDBOXING

RECIPES = {
    one.name: one
    for one in (LEARNING, TRANSFER, UNSANDBOXING, CHAIN_OF_THOUGHT, GREEDY, WITHHELD, SMALLER)
}


def recipe_of(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"There is no recipe {name!r}; there are: {', '.join(RECIPES)}.")
    return RECIPES[name]
