# strategies: refinement
import random

from helpers import extract_code

POPULATION = ["Make it faster.", "Make it simpler.", "Make it more robust.", "Use other ideas."]


def improve_algorithm(initial_solution, utility, language_model):
    best, fitness = initial_solution, utility(initial_solution)
    for generation in range(language_model.budget):
        parents = random.sample(POPULATION, 2)
        request = " ".join(parents) + "\n" + best + "\n" + utility.str
        child = extract_code(language_model.prompt("expert", request)[0])
        if child and (f := utility(child)) > fitness:
            best, fitness = child, f
    return best
