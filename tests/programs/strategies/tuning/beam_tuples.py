# strategies: refinement, beam
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    survivors = [(initial_solution, utility(initial_solution))]
    budget = language_model.budget
    while budget > 0 and utility.uses < utility.budget:
        batch = []
        for code, _ in survivors:
            batch.append("Improve this code\n" + code + "\nto maximize\n" + utility.str)
        out = language_model.batch_prompt("You are an expert", batch, temperature=0.7)
        budget -= 1
        new = [(c, utility(c)) for c in extract_code(out) if c]
        survivors = sorted(survivors + new, key=lambda x: -x[1])[:3]
    return survivors[0][0]
