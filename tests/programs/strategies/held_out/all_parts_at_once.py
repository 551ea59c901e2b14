# strategies: decomposition
import ast

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    tree = ast.parse(initial_solution)
    functions = {n.name: ast.get_source_segment(initial_solution, n) for n in tree.body if hasattr(n, "name")}
    messages = [f"Optimize just this function:\n{text}\nfor\n{utility.str}" for text in functions.values()]
    answers = language_model.batch_prompt("expert in small functions", messages)
    result = initial_solution
    for old, answer in zip(functions.values(), answers):
        new = extract_code(answer)
        if new:
            result = result.replace(old, new)
    return result if utility(result) > utility(initial_solution) else initial_solution
