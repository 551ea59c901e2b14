# strategies: refinement, tree_search
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    def explore(program, value, depth):
        """Follow the improvements of a program as deep as they go; return the best below it."""
        if depth == 0 or language_model.remaining == 0:
            return value, program
        champion = (value, program)
        replies = language_model.prompt(
            "You improve programs.", f"Improve this:\n{program}\n{utility.str}", n_responses=2
        )
        for code in extract_code(replies):
            if not code:
                continue
            score = utility(code)
            if score >= value:
                champion = max(champion, explore(code, score, depth - 1))
        return champion

    return explore(initial_solution, utility(initial_solution), 3)[1]
