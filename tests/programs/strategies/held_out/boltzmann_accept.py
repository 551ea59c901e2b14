# strategies: refinement, annealing, caching
import numpy as np
from helpers import extract_code


def _accept(old, new, t, rng):
    if new >= old:
        return True
    probability = np.exp(-(old - new) / t)
    return rng.uniform() < probability


def improve_algorithm(initial_solution, utility, language_model):
    rng = np.random.default_rng(7)
    memo = {}

    def f(code):
        try:
            return memo[code]
        except KeyError:
            memo[code] = utility(code)
            return memo[code]

    state = initial_solution
    t = 0.5
    for _ in range(language_model.budget):
        message = "Change the program below so that the utility rises.\n" + state + "\n" + utility.str
        proposal = extract_code(language_model.prompt("", message)[0])
        if proposal and _accept(f(state), f(proposal), t, rng):
            state = proposal
        t = max(0.01, t - 0.1)
    return max(memo, key=memo.get) if memo else state
