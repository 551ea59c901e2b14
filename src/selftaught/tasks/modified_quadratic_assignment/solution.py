import math
import random

import numpy as np


def objective(F, D, P, order):
    n = len(order)
    flow = np.sum(F * D[np.ix_(order, order)])
    preference = sum(P[i, order[i]] for i in range(n))
    return flow - 0.5 * preference


def algorithm(F, D, P):
    n = len(F)
    order = list(range(n))
    value = objective(F, D, P, order)
    best, best_value = order[:], value
    temperature = 1.0
    for step in range(1000):
        i, j = random.sample(range(n), 2)
        other = order[:]
        other[i], other[j] = other[j], other[i]
        other_value = objective(F, D, P, other)
        change = other_value - value
        if change < 0 or random.random() < math.exp(-change / temperature):
            order, value = other, other_value
            if value < best_value:
                best, best_value = order[:], value
        temperature *= 0.99
    return best
