# strategies: best_of_n, personas
from helpers import extract_code

ROLES = [
    "You are a mathematician who looks for closed forms.",
    "You are a systems programmer who counts every cycle.",
    "You are a competitive programmer with a bag of tricks.",
]


def improve_algorithm(initial_solution, utility, language_model):
    question = f"Write a better version of\n{initial_solution}\nmeasured by\n{utility.str}"
    proposals = []
    for role in ROLES:
        try:
            proposals += language_model.prompt(role, question, n_responses=2)
        except RuntimeError:
            pass
    programs = [p for p in extract_code(proposals) if p]
    programs.append(initial_solution)
    return max(programs, key=utility)
