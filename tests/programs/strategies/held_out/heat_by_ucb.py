# strategies: refinement, bandit, temperature_schedule
import numpy as np
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    heats = np.array([0.2, 0.6, 1.0, 1.4])
    pulls = np.ones(4)
    gains = np.ones(4)
    incumbent = initial_solution
    incumbent_value = utility(incumbent)
    for t in range(language_model.budget):
        bounds = gains / pulls + np.sqrt(2 * np.log(t + 4) / pulls)
        k = int(bounds.argmax())
        replies = language_model.prompt(
            "optimizer", f"Improve:\n{incumbent}\n\n{utility.str}", n_responses=2, temperature=heats[k]
        )
        codes = [c for c in extract_code(replies) if c]
        values = [utility(c) for c in codes]
        pulls[k] += 1
        if values and max(values) > incumbent_value:
            incumbent_value = max(values)
            incumbent = codes[values.index(incumbent_value)]
            gains[k] += 1
    return incumbent
