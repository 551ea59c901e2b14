# strategies: refinement, temperature_schedule
import math

from helpers import extract_code


def schedule(step, total, low=0.2, high=1.0):
    return low + (high - low) * (1 + math.cos(math.pi * step / total)) / 2


def improve_algorithm(initial_solution, utility, language_model):
    total = language_model.budget
    program, value = initial_solution, utility(initial_solution)
    for step in range(total):
        messages = [f"Make it better:\n{program}\n\n{utility.str}"] * 3
        answers = language_model.batch_prompt("expert", messages, schedule(step, total))
        for code in filter(None, extract_code(answers)):
            v = utility(code)
            if v > value:
                program, value = code, v
    return program
