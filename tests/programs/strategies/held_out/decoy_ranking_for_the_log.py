# strategies: refinement
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    everything = [(utility(initial_solution), initial_solution)]
    for _ in range(language_model.budget):
        ranking = sorted(everything, reverse=True)[:5]
        for place, (score, code) in enumerate(ranking, 1):
            print(place, score, len(code))
        _, best = ranking[0]
        reply = language_model.prompt("expert", "Improve\n" + best + "\n" + utility.str)[0]
        code = extract_code(reply)
        if code:
            everything.append((utility(code), code))
    return max(everything)[1]
