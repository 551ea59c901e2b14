"""The value of what was packed, as a share of the relaxed problem's bound."""

import random

from selftaught.utility import InvalidAnswer, over_instances


def score(solution, split, seed, *, items):
    """Mean over the instances; 1 would be the bound itself."""

    def one(instance_seed):
        source = random.Random(instance_seed)
        things = [(source.randint(1, 100), source.randint(1, 100)) for _ in range(items)]
        capacity = sum(weight for _, weight in things) // 3
        lines = [f"{items} {capacity}", *(f"{value} {weight}" for value, weight in things)]
        printed = solution.run("\n".join(lines) + "\n")
        try:
            taken = [int(word) for word in printed.split()]
        except ValueError as error:
            raise InvalidAnswer(f"indices are wanted: {error}") from error
        if len(set(taken)) < len(taken) or not all(0 <= i < items for i in taken):
            raise InvalidAnswer("an index is repeated or names no item")
        if sum(things[i][1] for i in taken) > capacity:
            raise InvalidAnswer("the items taken are too heavy")
        return sum(things[i][0] for i in taken) / _bound(things, capacity)

    return over_instances(one, split, seed, worst=0.0)


def _bound(things, capacity):
    """The value where the last item may be cut."""
    total = 0.0
    for value, weight in sorted(things, key=lambda one: one[0] / one[1], reverse=True):
        share = min(1.0, capacity / weight)
        total += share * value
        capacity -= share * weight
        if share < 1.0:
            break
    return total
