# strategies: refinement, annealing, temperature_schedule
import math
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    current = best = initial_solution
    current_score = best_score = utility(initial_solution)
    temperature, cooling = 1.0, 0.7
    while language_model.remaining:
        message = f"Improve the program.\n{current}\nUtility:\n{utility.str}"
        answers = language_model.prompt("optimizer", message, n_responses=3, temperature=temperature)
        for candidate in filter(None, extract_code(answers)):
            s = utility(candidate)
            delta = s - current_score
            if delta >= 0:
                accept = True
            else:
                accept = random.random() < math.exp(delta / max(temperature, 1e-9))
            if accept:
                current, current_score = candidate, s
            if s > best_score:
                best, best_score = candidate, s
        temperature = temperature * cooling
    return best
