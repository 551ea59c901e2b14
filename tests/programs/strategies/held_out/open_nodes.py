# strategies: refinement, tree_search
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    # node: id -> [program, score, depth, number of expansions]
    tree = {0: [initial_solution, utility(initial_solution), 0, 0]}
    children_of = {0: []}
    for _ in range(language_model.budget):
        # promising, shallow, and not yet expanded much
        pick = max(tree, key=lambda i: tree[i][1] - 0.05 * tree[i][2] - 0.1 * tree[i][3])
        program = tree[pick][0]
        tree[pick][3] += 1
        reply = language_model.prompt("expert", f"Improve\n{program}\nScore:\n{utility.str}")[0]
        code = extract_code(reply)
        if code:
            new = len(tree)
            tree[new] = [code, utility(code), tree[pick][2] + 1, 0]
            children_of[new] = []
            children_of[pick].append(new)
    return max(tree.values(), key=lambda node: node[1])[0]
