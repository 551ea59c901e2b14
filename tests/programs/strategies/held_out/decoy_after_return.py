# strategies: none
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    answer = language_model.prompt("expert", f"Rewrite\n{initial_solution}\nfor\n{utility.str}")[0]
    return extract_code(answer) or initial_solution
    population = [initial_solution]
    for _ in range(10):
        parent = random.choice(population)
        child = extract_code(language_model.prompt("expert", f"Mutate\n{parent}")[0])
        population.append(child)
        population = sorted(population, key=utility, reverse=True)[:5]
    return population[0]
