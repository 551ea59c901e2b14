def attraction(weights, side, sides):
    # Weight of the edges to nodes that already lie on the other side.
    total = 0
    for other in range(len(weights)):
        if sides[other] == 1 - side:
            total += weights[other]
    return total


def algorithm(adjacency):
    rows = adjacency.tolist()
    n = len(rows)
    sides = [None] * n
    for turn in range(n):
        best, place = -1, None
        for node in range(n):
            if sides[node] is None:
                for side in (0, 1):
                    value = attraction(rows[node], side, sides)
                    if value > best:
                        best, place = value, (node, side)
        node, side = place
        sides[node] = side
    return sides
