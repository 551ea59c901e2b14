# strategies: refinement, decomposition, caching
import ast

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    cache = {}

    def score(src):
        if src not in cache:
            cache[src] = utility(src)
        return cache[src]

    def components(src):
        try:
            return [node for node in ast.parse(src).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        except SyntaxError:
            return []

    current = initial_solution
    for _ in range(2):
        for component in components(current):
            snippet = ast.unparse(component)
            try:
                out = language_model.prompt("expert", f"Improve this component:\n{snippet}\n\n{utility.str}")
            except RuntimeError:
                return current
            code = extract_code(out[0])
            if code:
                patched = ast.unparse(ast.parse(current)).replace(snippet, code)
                current = max(current, patched, key=score)
    return current
