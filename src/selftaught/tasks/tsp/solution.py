def length(tour, distances):
    return sum(distances[tour[k - 1]][tour[k]] for k in range(len(tour)))


def turned(tour, i, j):
    # The tour with the stretch from place i to place j in reverse.
    other = tour[:]
    other[i:j] = reversed(other[i:j])
    return other


def moved(tour, i, j):
    # The tour with the city at place i moved to place j.
    other = tour[:]
    other.insert(j, other.pop(i))
    return other


def sweep(tour, distances, change, step, near, far, least):
    # Try a change at every step-th place, with a second place near to far further on.
    best = length(tour, distances)
    for i in range(0, len(tour), step):
        for j in range(i + near, i + far):
            other = change(tour, i, j)
            new = length(other, distances)
            if new + least < best:
                tour, best = other, new
    return tour


def algorithm(distances):
    tour = list(range(len(distances)))
    tour = sweep(tour, distances, turned, 5, 2, 4, 90)
    tour = sweep(tour, distances, moved, 5, 1, 3, 90)
    tour = sweep(tour, distances, turned, 5, 3, 5, 60)
    tour = sweep(tour, distances, moved, 5, 2, 4, 60)
    tour = sweep(tour, distances, turned, 5, 4, 6, 40)
    tour = sweep(tour, distances, moved, 5, 3, 5, 40)
    return tour
