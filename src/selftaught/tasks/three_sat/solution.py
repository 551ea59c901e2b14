import random


def algorithm(formula):
    n = max(abs(literal) for clause in formula for literal in clause)
    # holds[v] and holds[-v]: is the literal v true, is the literal -v true?
    holds = [False] * (n + 1) + [True] * n
    uses = [0] * (n + 1)
    for clause in formula:
        for literal in clause:
            uses[abs(literal)] += 1
    for flip in range(1000):
        broken = [c for c in formula if not (holds[c[0]] or holds[c[1]] or holds[c[2]])]
        if not broken:
            break
        clause = random.choice(broken)
        if random.random() < 0.4:
            literal = random.choice(clause)
        else:
            literal = max(clause, key=lambda literal: uses[abs(literal)])
        holds[literal] = True
        holds[-literal] = False
    return holds[: n + 1]
