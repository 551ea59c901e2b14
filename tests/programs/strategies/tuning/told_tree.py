# strategies: refinement, tree_search, feedback, caching
import heapq

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    results = {}

    def assess(text):
        if text not in results:
            results[text] = utility.evaluate(text)
        return results[text]

    agenda = []
    heapq.heappush(agenda, (-assess(initial_solution).value, initial_solution))
    while agenda and language_model.remaining:
        negative, text = heapq.heappop(agenda)
        message = "\n".join([
            "Program:", text,
            "Its score is " + str(-negative) + " and the evaluator remarked: " + str(assess(text).feedback),
            "Improve it. Evaluator:", utility.str,
        ])
        for code in extract_code(language_model.prompt("expert", message, n_responses=2)):
            if code and code not in results:
                heapq.heappush(agenda, (-assess(code).value, code))
    return max(results, key=lambda text: results[text].value)
