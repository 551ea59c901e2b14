# strategies: refinement, bandit
import random

from helpers import extract_code

HINTS = {"small": "Make a small change.", "big": "Rethink everything.", "speed": "Make it faster."}


class Chooser:
    def __init__(self, names, epsilon):
        self.epsilon = epsilon
        self.n = dict.fromkeys(names, 0)
        self.mean = dict.fromkeys(names, 0.0)

    def choose(self):
        if random.random() < self.epsilon:
            return random.choice(list(self.n))
        return max(self.mean, key=self.mean.get)

    def learn(self, name, reward):
        self.n[name] += 1
        self.mean[name] += (reward - self.mean[name]) / self.n[name]


def improve_algorithm(initial_solution, utility, language_model):
    chooser = Chooser(HINTS, 0.2)
    best, top = initial_solution, utility(initial_solution)
    for _ in range(language_model.budget):
        name = chooser.choose()
        message = HINTS[name] + "\n" + best + "\n" + utility.str
        code = extract_code(language_model.prompt("software engineer", message)[0])
        gain = 0.0
        if code:
            now = utility(code)
            gain = now - top
            if now > top:
                best, top = code, now
        chooser.learn(name, gain)
    return best
