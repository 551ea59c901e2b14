# strategies: refinement, genetic
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    genomes = [initial_solution]
    fits = [utility(initial_solution)]
    for gen in range(language_model.budget):
        low = min(fits)
        weights = [f - low + 1e-6 for f in fits]
        parents = random.choices(genomes, weights=weights, k=4)
        msgs = ["Vary this program:\n" + p + "\nGoal:\n" + utility.str for p in parents]
        offspring = extract_code(language_model.batch_prompt("geneticist of programs", msgs, temperature=0.9))
        for o in offspring:
            if not o:
                continue
            genomes.append(o)
            fits.append(utility(o))
        while len(genomes) > 10:
            worst = fits.index(min(fits))
            genomes.pop(worst)
            fits.pop(worst)
    return genomes[fits.index(max(fits))]
