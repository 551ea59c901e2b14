# strategies: refinement, decomposition
import ast

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    best, best_score = initial_solution, utility(initial_solution)
    try:
        names = [n.name for n in ast.parse(initial_solution).body if isinstance(n, ast.FunctionDef)]
    except SyntaxError:
        names = []
    for name in names:
        message = (
            f"Here is a program:\n{best}\n\nImprove only the function `{name}` and return the whole "
            f"program.\nThe program is scored by\n{utility.str}"
        )
        try:
            replies = language_model.prompt("expert", message, n_responses=3)
        except RuntimeError:
            break
        for code in extract_code(replies):
            if code and (s := utility(code)) > best_score:
                best, best_score = code, s
    return best
