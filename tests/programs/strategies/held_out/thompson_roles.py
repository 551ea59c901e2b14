# strategies: refinement, bandit, personas
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    stats = {
        "You are a numerical analyst.": [1, 1],
        "You are a compiler writer.": [1, 1],
        "You are a puzzle solver.": [1, 1],
    }
    solution = initial_solution
    value = utility(solution)
    while language_model.remaining > 0:
        draws = {role: random.betavariate(a, b) for role, (a, b) in stats.items()}
        role = max(draws, key=draws.get)
        reply = language_model.prompt(role, f"Improve\n{solution}\nfor\n{utility.str}")[0]
        code = extract_code(reply)
        won = False
        if code:
            v = utility(code)
            if v > value:
                solution, value, won = code, v, True
        stats[role][0 if won else 1] += 1
    return solution
