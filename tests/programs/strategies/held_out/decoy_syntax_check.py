# strategies: refinement
import ast

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    def functions(source):
        try:
            return [n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
        except SyntaxError:
            return []

    wanted = functions(initial_solution)
    program, score = initial_solution, utility(initial_solution)
    for _ in range(language_model.budget):
        code = extract_code(language_model.prompt("expert", f"Improve\n{program}\n{utility.str}")[0])
        if code and set(wanted) <= set(functions(code)):
            s = utility(code)
            if s > score:
                program, score = code, s
    return program
