# strategies: ensembles
import ast
from collections import Counter

from helpers import extract_code


def normal_form(code):
    try:
        return ast.dump(ast.parse(code))
    except SyntaxError:
        return None


def improve_algorithm(initial_solution, utility, language_model):
    message = f"Correct and improve this program:\n{initial_solution}\n\n{utility.str}"
    votes, example = Counter(), {}
    for _ in range(language_model.budget):
        for code in extract_code(language_model.prompt("expert", message, n_responses=4)):
            form = normal_form(code) if code else None
            if form is not None:
                votes[form] += 1
                example.setdefault(form, code)
    if not votes:
        return initial_solution
    return example[votes.most_common(1)[0][0]]
