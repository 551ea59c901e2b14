# strategies: refinement, genetic, feedback
import random
from dataclasses import dataclass

from helpers import extract_code


@dataclass(order=True)
class Individual:
    fitness: float
    source: str


def crossover_prompt(a, b, u):
    return (
        f"First program (fitness {a.fitness}):\n{a.source}\n\n"
        f"Second program (fitness {b.fitness}):\n{b.source}\n\n"
        f"Fitness is\n{u.str}\nBreed a fitter one."
    )


def improve_algorithm(initial_solution, utility, language_model):
    people = [Individual(utility(initial_solution), initial_solution)]
    for _ in range(language_model.budget):
        a = people[random.randrange(len(people))]
        b = people[random.randrange(len(people))]
        for reply in language_model.prompt("breeder", crossover_prompt(a, b, utility), n_responses=2):
            source = extract_code(reply)
            if source:
                newcomer = Individual(utility(source), source)
                if len(people) < 6:
                    people.append(newcomer)
                elif newcomer > min(people):
                    people[people.index(min(people))] = newcomer
    return max(people).source
