# strategies: refinement, tree_search, caching
from queue import Empty, PriorityQueue

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    room = PriorityQueue()
    seen = {initial_solution}
    room.put((0.0, initial_solution))
    winner = (utility(initial_solution), initial_solution)
    while True:
        try:
            _, text = room.get_nowait()
            answers = language_model.prompt("expert", "Improve\n" + text + "\n" + utility.str, 4)
        except (Empty, RuntimeError):
            break
        for answer in answers:
            child = extract_code(answer)
            if child is None or child in seen:
                continue
            seen.add(child)
            score = utility(child)
            room.put((-score, child))
            winner = max(winner, (score, child))
    return winner[1]
