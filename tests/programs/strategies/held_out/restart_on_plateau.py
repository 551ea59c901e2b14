# strategies: refinement, restarts
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    start_score = utility(initial_solution)
    current, current_score = initial_solution, start_score
    best, best_score = current, current_score
    stale = 0
    for _ in range(language_model.budget):
        reply = language_model.prompt("expert", f"Improve\n{current}\n{utility.str}")[0]
        code = extract_code(reply)
        score = utility(code) if code else start_score - 1
        if score > current_score:
            current, current_score, stale = code, score, 0
        else:
            stale += 1
        if current_score > best_score:
            best, best_score = current, current_score
        if stale >= 3:  # a dead end
            current, current_score, stale = initial_solution, start_score, 0
    return best
