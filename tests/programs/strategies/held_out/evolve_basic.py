# strategies: refinement, genetic
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    population = [(initial_solution, utility(initial_solution))]
    for generation in range(language_model.budget):
        mother, _ = random.choice(population)
        father, _ = random.choice(population)
        message = f"""Parent A:
{mother}

Parent B:
{father}

Write a child that combines the two. Fitness:
{utility.str}"""
        children = extract_code(language_model.prompt("evolutionary programmer", message, n_responses=3))
        for child in children:
            if child:
                population.append((child, utility(child)))
        population.sort(key=lambda pair: pair[1], reverse=True)
        population = population[:8]
    return population[0][0]
