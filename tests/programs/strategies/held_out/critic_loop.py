# strategies: refinement, personas
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    solution = initial_solution
    value = utility(solution)
    # two calls per round: first the reviewer, then the author
    for _ in range(language_model.budget // 2):
        review = language_model.prompt(
            "You are a merciless code reviewer.",
            f"List the three worst weaknesses of\n{solution}\nwith respect to\n{utility.str}",
        )[0]
        rewritten = language_model.prompt(
            "You are the author of the program and take criticism well.",
            f"Program:\n{solution}\n\nReview:\n{review}\n\nRewrite the program.",
        )[0]
        rewritten = extract_code(rewritten)
        if rewritten and (new_value := utility(rewritten)) > value:
            solution, value = rewritten, new_value
    return solution
