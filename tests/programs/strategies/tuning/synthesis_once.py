# strategies: ensembles
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    n = min(4, language_model.max_responses_per_call)
    drafts = language_model.prompt("expert", f"Improve\n{initial_solution}\n{utility.str}", n_responses=n)
    drafts = [d for d in extract_code(drafts) if d]
    merged_prompt = "Several engineers rewrote the same program.\n"
    for number, draft in enumerate(drafts):
        merged_prompt += f"\nVersion {number}:\n{draft}\n"
    merged_prompt += "\nTake the best of each and write the final version."
    final = extract_code(language_model.prompt("expert", merged_prompt)[0])
    if final and utility(final) > utility(initial_solution):
        return final
    return initial_solution
