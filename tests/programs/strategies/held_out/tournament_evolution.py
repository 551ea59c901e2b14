# strategies: refinement, genetic, caching
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    fitness = {}

    def evaluate(genome):
        if genome not in fitness:
            fitness[genome] = utility(genome)
        return fitness[genome]

    def select(pop):
        contenders = random.sample(pop, min(3, len(pop)))
        return max(contenders, key=evaluate)

    def mutate(genome):
        text = f"Change one thing in this program so that it improves:\n{genome}\n{utility.str}"
        return extract_code(language_model.prompt("mutation operator", text, temperature=1.0)[0])

    pop = [initial_solution]
    for _ in range(language_model.budget):
        child = mutate(select(pop))
        if child:
            pop.append(child)
            evaluate(child)
        if len(pop) > 6:
            pop.remove(min(pop, key=evaluate))
    return max(pop, key=evaluate)
