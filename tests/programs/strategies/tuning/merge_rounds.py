# strategies: refinement, ensembles, feedback
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    shown = [(initial_solution, utility(initial_solution))]
    champion = shown[0]
    for _ in range(language_model.budget):
        parts = ["Look at these attempts and their scores."]
        for code, score in shown:
            parts.append(f"Score {score}:\n{code}")
        parts.append("Learn from all of them. Write one that scores higher under " + utility.str)
        replies = language_model.prompt("expert", "\n\n".join(parts), n_responses=3)
        shown = [(c, utility(c)) for c in extract_code(replies) if c] or shown
        champion = max([champion] + shown, key=lambda p: p[1])
    return champion[0]
