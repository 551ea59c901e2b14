def room(circles, i, x, y, width, height):
    # The largest radius that circle i may have around (x, y).
    least = min(x, y, width - x, height - y)
    for j in range(len(circles)):
        if j != i:
            a, b, r = circles[j]
            least = min(least, ((x - a) ** 2 + (y - b) ** 2) ** 0.5 - r)
    return least


def grow(circles, width, height, first, step, share):
    # Every step-th circle takes a share of the room around it.
    for i in range(first, len(circles), step):
        x, y, r = circles[i]
        free = room(circles, i, x, y, width, height) - r
        circles[i] = (x, y, r + free * share)


def settle(circles, width, height, first, step, reach):
    # Every step-th circle moves to the roomiest of five places.
    for i in range(first, len(circles), step):
        x, y, r = circles[i]
        best = room(circles, i, x, y, width, height)
        for a, b in ((x - reach, y), (x + reach, y), (x, y - reach), (x, y + reach)):
            new = room(circles, i, a, b, width, height)
            if new > best:
                x, y, best = a, b, new
        circles[i] = (x, y, r)


def trim(circles, width, height, tight):
    # Bring every centre inside, then every circle within its room.
    for i in range(len(circles)):
        x, y, r = circles[i]
        circles[i] = (max(0, min(x, width)), max(0, min(y, height)), max(0, r))
    for i in range(len(circles)):
        x, y, r = circles[i]
        free = tight * room(circles, i, x, y, width, height)
        circles[i] = (x, y, max(0, min(r, free)))


def rows(n, width, height, across, margin, shift):
    # Centres in rows, every second row shifted.
    down = (n + across - 1) // across
    circles = []
    for i in range(n):
        row, column = i // across, i % across
        x = margin + (width - 2 * margin) * column / across + row % 2 * shift
        y = margin + (height - 2 * margin) * row / down
        circles.append((x, y, 0))
    return circles


def algorithm(n, width, height):
    circles = rows(n, width, height, 4, 0.06, 0.02)
    settle(circles, width, height, 0, 4, 0.02)
    settle(circles, width, height, 1, 5, 0.02)
    grow(circles, width, height, 0, 3, 0.3)
    grow(circles, width, height, 1, 3, 0.4)
    settle(circles, width, height, 2, 4, 0.01)
    grow(circles, width, height, 0, 2, 0.4)
    grow(circles, width, height, 1, 2, 0.3)
    trim(circles, width, height, 0.99)
    return circles
