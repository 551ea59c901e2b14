# strategies: best_of_n
from helpers import extract_code

USE_BEAM = False


def improve_algorithm(initial_solution, utility, language_model):
    message = f"Improve\n{initial_solution}\n{utility.str}"
    codes = [c for c in extract_code(language_model.prompt("expert", message, n_responses=4)) if c]
    scored = sorted(((utility(c), c) for c in codes), reverse=True)
    if False:
        beam = scored[:3]
        for _ in range(3):
            for _, code in beam:
                new = extract_code(language_model.prompt("expert", f"Improve\n{code}")[0])
                scored.append((utility(new), new))
            beam = sorted(scored, reverse=True)[:3]
    return scored[0][1] if scored else initial_solution
