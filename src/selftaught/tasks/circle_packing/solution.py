def room(circles, i, x, y, width, height):
    # The largest radius that circle i may have around (x, y).
    least = min(x, y, width - x, height - y)
    for j in range(len(circles)):
        if j != i:
            a, b, r = circles[j]
            least = min(least, ((x - a) ** 2 + (y - b) ** 2) ** 0.5 - r)
    return least


def move(circles, width, height, first, step, right, up):
    # Every step-th circle moves there or the other way, where it has more room.
    for i in range(first, len(circles), step):
        x, y, r = circles[i]
        most = room(circles, i, x, y, width, height)
        for a, b in ((x + right, y + up), (x - right, y - up)):
            new = room(circles, i, a, b, width, height)
            if new > most:
                x, y, most = a, b, new
        circles[i] = (x, y, r)


def grow(circles, width, height, first, step, share):
    # Every step-th circle takes a share of the room around it, at most nearly all.
    for i in range(first, len(circles), step):
        x, y, r = circles[i]
        full = room(circles, i, x, y, width, height)
        circles[i] = (x, y, max(0, min(r + share * (full - r), 0.99 * full)))


def rows(n, width, height, across, margin, shift):
    # Centres in rows, every second row shifted.
    down = (n + across - 1) // across
    circles = []
    for i in range(n):
        x = margin + (width - 2 * margin) * (i % across) / across + i // across % 2 * shift
        y = margin + (height - 2 * margin) * (i // across) / down
        circles.append((x, y, 0))
    return circles


def algorithm(n, width, height):
    circles = rows(n, width, height, 5, 0.08, 0.02)
    move(circles, width, height, 0, 3, 0.02, 0.0)
    move(circles, width, height, 1, 3, 0.0, 0.02)
    move(circles, width, height, 2, 4, 0.01, 0.01)
    grow(circles, width, height, 0, 3, 0.25)
    grow(circles, width, height, 1, 3, 0.25)
    grow(circles, width, height, 2, 3, 0.25)
    move(circles, width, height, 0, 3, 0.01, 0.0)
    move(circles, width, height, 1, 3, 0.0, 0.01)
    grow(circles, width, height, 0, 3, 0.25)
    grow(circles, width, height, 1, 3, 0.3)
    grow(circles, width, height, 2, 3, 0.3)
    return circles
