def compare(network, n, i, j):
    if 0 <= i < j < n:
        network.append((i, j))


def algorithm(n):
    network = []
    for i in range(0, n, 2):
        compare(network, n, i, i + 5)
    for i in range(0, n, 3):
        compare(network, n, i, i + 4)
    for i in range(1, n, 2):
        compare(network, n, i, i + 3)
    for i in range(0, n, 3):
        compare(network, n, i, i + 2)
    for i in range(1, n, 2):
        compare(network, n, i, i + 2)
    for i in range(0, n, 3):
        compare(network, n, i, i + 1)
    for i in range(1, n, 2):
        compare(network, n, i, i + 1)
    for i in range(0, n, 3):
        compare(network, n, i, i + 1)
    return network
