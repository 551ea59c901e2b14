"""Trusted scorer of the dials: minus the mean distance to places that waver a little."""

from random import Random

from selftaught.utility import Candidate, InvalidAnswer, Score, Split, over_instances

PLACES = (7, -6, 9)
WORST = -14.0


def score(solution: Candidate, split: Split, seed: int) -> Score:
    """Score a program: the mean over instances, each with its own wavering."""

    def one(instance_seed: int) -> float:
        dials = solution.call("algorithm")
        if not isinstance(dials, list) or len(dials) != len(PLACES):
            raise InvalidAnswer("A list of three whole numbers is wanted.")
        if not all(isinstance(dial, int) for dial in dials):
            raise InvalidAnswer("Every dial must be a whole number.")
        random = Random(instance_seed)
        places = [place + random.choice((-1, 0, 1)) for place in PLACES]
        distances = [abs(dial - place) for dial, place in zip(dials, places, strict=True)]
        return max(WORST, -sum(distances) / len(PLACES))

    return over_instances(one, split, seed, worst=WORST)
