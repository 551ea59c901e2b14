# strategies: best_of_n
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    # draft a handful of versions
    prompt = "Rewrite the following so that it scores higher.\n" + initial_solution + "\n" + utility.str
    drafts = language_model.prompt("Senior engineer", prompt, n_responses=5, temperature=0.9)
    drafts = [extract_code(d) for d in drafts]
    drafts = [d for d in drafts if d]
    # pick the winner
    winner = None
    winner_score = float("-inf")
    for d in drafts:
        s = utility(d)
        if s > winner_score:
            winner, winner_score = d, s
    return winner or initial_solution
