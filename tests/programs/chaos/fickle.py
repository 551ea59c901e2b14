"""Never does the same twice: the clock, the machine's luck, threads, addresses, the order of sets."""

import os
import random
import threading
import time

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    luck = random.SystemRandom()
    told = []
    threads = [
        # No sleep: a mutation may make it a long one.
        threading.Thread(target=lambda n=n: told.insert(luck.randrange(len(told) + 1), n))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mood = os.urandom(1)[0] % 3 + 1
    words = " ".join({"red", "green", str(time.time_ns() % 3), str(told)})
    head = "Improve this.\n\n```python\n" + initial_solution + "\n```\n"
    # What is equal every time, in another number each time; then what differs.
    texts = language_model.prompt("you are an expert", head, n_responses=mood)
    texts += language_model.batch_prompt("you are an expert", [head + words] * mood)
    found = [code for code in extract_code(texts) if code]
    luck.shuffle(found)
    return max([*found, initial_solution], key=utility)
