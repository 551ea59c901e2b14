# strategies: refinement, caching
import hashlib

from helpers import extract_code


def digest(text):
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()


def improve_algorithm(initial_solution, utility, language_model):
    fingerprints = [digest(initial_solution)]
    solution, score = initial_solution, utility(initial_solution)
    for _ in range(language_model.budget):
        out = language_model.prompt("expert", f"Improve:\n{solution}\n\n{utility.str}", n_responses=4)
        for code in extract_code(out):
            if not code or digest(code) in fingerprints:
                continue  # nothing new
            fingerprints.append(digest(code))
            s = utility(code)
            if s > score:
                solution, score = code, s
    return solution
