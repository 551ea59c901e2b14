# strategies: refinement, restarts
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    ends = []
    for attempt in range(3):
        prog = initial_solution
        val = utility(prog)
        for _ in range(language_model.budget // 3):
            txt = f"Attempt {attempt}. Improve this program.\n{prog}\nScored by\n{utility.str}"
            cands = [c for c in extract_code(language_model.prompt("expert", txt, n_responses=2)) if c]
            for c in cands:
                v = utility(c)
                if v > val:
                    prog, val = c, v
        ends.append((val, prog))
    ends.sort()
    return ends[-1][1]
