# strategies: refinement, beam, caching
from dataclasses import dataclass

from helpers import extract_code


@dataclass
class Candidate:
    code: str
    score: float


class BeamSearcher:
    def __init__(self, utility, lm, width=4):
        self.utility = utility
        self.lm = lm
        self.width = width
        self.known = {}

    def rate(self, code):
        if code not in self.known:
            self.known[code] = self.utility(code)
        return self.known[code]

    def expand(self, cand):
        message = f"Improve\n```python\n{cand.code}\n```\nfor\n{self.utility.str}"
        replies = self.lm.prompt("You improve algorithms.", message, n_responses=3)
        return [Candidate(c, self.rate(c)) for c in extract_code(replies) if c]

    def search(self, start):
        beam = [Candidate(start, self.rate(start))]
        for _ in range(3):
            pool = list(beam)
            for cand in beam:
                try:
                    pool.extend(self.expand(cand))
                except RuntimeError:
                    break
            pool.sort(key=lambda c: c.score, reverse=True)
            beam = pool[: self.width]
        return beam[0].code


def improve_algorithm(initial_solution, utility, language_model):
    return BeamSearcher(utility, language_model).search(initial_solution)
