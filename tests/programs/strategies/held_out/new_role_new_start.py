# strategies: refinement, restarts, personas
from helpers import extract_code

EXPERTS = ("a physicist", "an economist", "a chess player")


def climb(program, expert, utility, lm, rounds):
    score = utility(program)
    for _ in range(rounds):
        reply = lm.prompt(f"You are {expert}.", f"Improve\n{program}\n{utility.str}")[0]
        code = extract_code(reply)
        if code:
            s = utility(code)
            if s > score:
                program, score = code, s
    return score, program


def improve_algorithm(initial_solution, utility, language_model):
    rounds = max(1, language_model.budget // len(EXPERTS))
    best = (utility.initial, initial_solution)
    for expert in EXPERTS:
        try:
            best = max(best, climb(initial_solution, expert, utility, language_model, rounds))
        except RuntimeError:
            break
    return best[1]
