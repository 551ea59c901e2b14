# strategies: refinement
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    first, second = initial_solution, initial_solution
    top_score = utility(first)
    for _ in range(language_model.budget):
        print(f"leader:\n{first}\nrunner-up:\n{second}\nscore: {top_score}")
        message = f"Improve this program:\n{first}\nJudge:\n{utility.str}"
        code = extract_code(language_model.prompt("expert", message)[0])
        if code:
            s = utility(code)
            if s > top_score:
                first, second, top_score = code, first, s
    return first
