# strategies: refinement, bandit
import math

from helpers import extract_code

ARMS = ["Use a smarter data structure.", "Vectorize it.", "Change the algorithm.", "Tune constants."]


def improve_algorithm(initial_solution, utility, language_model):
    counts = [0] * len(ARMS)
    rewards = [0.0] * len(ARMS)
    best, best_score = initial_solution, utility(initial_solution)
    for t in range(1, language_model.budget + 1):
        ucb = [
            rewards[i] / counts[i] + math.sqrt(2 * math.log(t) / counts[i]) if counts[i] else float("inf")
            for i in range(len(ARMS))
        ]
        arm = ucb.index(max(ucb))
        msg = f"{ARMS[arm]}\n```python\n{best}\n```\n{utility.str}"
        code = extract_code(language_model.prompt("expert", msg)[0])
        score = utility(code) if code else 0.0
        counts[arm] += 1
        rewards[arm] += 1.0 if score > best_score else 0.0
        if score > best_score:
            best, best_score = code, score
    return best
