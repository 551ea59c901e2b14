def stage(network, n, first, gap, step):
    # Compare wires that lie gap apart, at every step-th wire from the first on.
    for i in range(first, n - gap, step):
        network.append((i, i + gap))


def algorithm(n):
    network = []
    stage(network, n, 0, n // 2, 2)
    stage(network, n, 1, n // 3, 2)
    stage(network, n, 0, 2, 2)
    stage(network, n, 0, 1, 2)
    stage(network, n, 1, 2, 3)
    stage(network, n, 1, 1, 2)
    return network
