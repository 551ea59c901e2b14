# strategies: refinement
import math
import random

from helpers import extract_code


def crossover(population):
    a, b = random.sample(population, 2)
    return f"Combine\n{a}\nand\n{b}"


def accept(delta, temperature):
    return delta > 0 or random.random() < math.exp(delta / temperature)


def top(pool, k):
    return sorted(pool, key=lambda p: p[0], reverse=True)[:k]


def improve_algorithm(initial_solution, utility, language_model):
    best, value = initial_solution, utility(initial_solution)
    for _ in range(language_model.budget):
        code = extract_code(language_model.prompt("expert", f"Improve\n{best}\n{utility.str}")[0])
        if code:
            v = utility(code)
            if v > value:
                best, value = code, v
    return best
