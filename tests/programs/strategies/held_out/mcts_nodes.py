# strategies: refinement, tree_search
import math

from helpers import extract_code


class Node:
    def __init__(self, program, value, parent=None):
        self.program, self.parent = program, parent
        self.children = []
        self.visits, self.total = 1, value

    def uct(self):
        return self.total / self.visits + math.sqrt(math.log(self.parent.visits + 1) / self.visits)


def select(node):
    while len(node.children) >= 3:
        node = max(node.children, key=Node.uct)
    return node


def backpropagate(node, value):
    while node is not None:
        node.visits += 1
        node.total += value
        node = node.parent


def improve_algorithm(initial_solution, utility, language_model):
    root = Node(initial_solution, utility(initial_solution))
    best = (root.total, initial_solution)
    for _ in range(language_model.budget):
        leaf = select(root)
        reply = language_model.prompt("expert", f"Improve:\n{leaf.program}\n{utility.str}")[0]
        program = extract_code(reply)
        if not program:
            continue
        value = utility(program)
        leaf.children.append(Node(program, value, leaf))
        backpropagate(leaf, value)
        best = max(best, (value, program))
    return best[1]
