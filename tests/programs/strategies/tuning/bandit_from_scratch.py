# strategies: best_of_n, bandit
import math

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    styles = ["Be bold.", "Be careful.", "Think of a known algorithm first."]
    tried = {s: [] for s in styles}
    results = []
    for n in range(language_model.budget):
        untried = [s for s in styles if not tried[s]]
        if untried:
            style = untried[0]
        else:
            style = max(
                styles,
                key=lambda s: sum(tried[s]) / len(tried[s]) + math.sqrt(math.log(n) / len(tried[s])),
            )
        answer = language_model.prompt("coder", f"{style}\n{initial_solution}\n{utility.str}")[0]
        program = extract_code(answer)
        reward = utility(program) if program else 0
        tried[style].append(reward)
        if program:
            results.append((reward, program))
    return max(results)[1] if results else initial_solution
