# strategies: refinement, restarts, caching
from functools import lru_cache

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    @lru_cache(maxsize=None)
    def rate(text):
        return utility(text)

    calls = language_model.budget
    hall_of_fame = [initial_solution]
    for length in (1, 1, 2, 1, 1, 2, 4):
        text = initial_solution
        for _ in range(length):
            if calls == 0:
                return max(hall_of_fame, key=rate)
            calls -= 1
            reply = language_model.prompt("expert", f"Next version of:\n{text}\n{utility.str}")[0]
            text = extract_code(reply) or text
        hall_of_fame.append(text)
    return max(hall_of_fame, key=rate)
