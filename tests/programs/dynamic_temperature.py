"""An improver of the shape that language models write: temperatures that follow the progress.

It uses the published part of the improver API alone, and its habits: nested functions, a set
against duplicates, a dict of scores, arithmetic on both budgets, prompts from f-strings.
"""

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    """Improve a solution in several rounds, hotter while nothing gets better."""
    experts = [
        "You are an expert in algorithm design who looks for ideas that others miss.",
        "You are an expert in numerical code who tunes what is already good.",
    ]
    utility_cache = {}
    seen_solutions = set()
    calls_left = language_model.budget

    def affordable():
        return utility.budget - len(utility_cache)

    def evaluate(solution):
        if solution not in utility_cache:
            utility_cache[solution] = utility(solution)
        return utility_cache[solution]

    def build_message(solution, temperature):
        mood = "a bold change" if temperature > 0.7 else "a careful change"
        return f"""Make {mood} to this solution, so that its utility rises:
```python
{solution}
```
It has a utility of {utility_cache.get(solution, "unknown")!s}. The utility function is:
```python
{utility.str}
```
Return the complete solution in a code block. {calls_left - 1} more calls may follow.
"""

    def generate(solution, expertise, temperature):
        n_messages = min(language_model.max_responses_per_call, affordable())
        messages = [build_message(solution, temperature)] * n_messages
        answers = language_model.batch_prompt(expertise, messages, temperature=temperature)
        unique = []
        for code in extract_code(answers):
            if code is not None and code not in seen_solutions:
                seen_solutions.add(code)
                unique.append(code)
        return unique

    best_solution, best_score = initial_solution, None
    if utility.budget > 1:
        best_score = evaluate(initial_solution)
    seen_solutions.add(initial_solution)
    temperature, stalled = 0.7, 0
    while calls_left > 0 and affordable() > 0:
        candidates = generate(best_solution, experts[stalled % len(experts)], temperature)
        calls_left -= 1
        scored = sorted((evaluate(code), code) for code in candidates[: affordable()])
        if scored and (best_score is None or scored[-1][0] > best_score):
            best_score, best_solution = scored[-1]
            temperature, stalled = max(0.2, temperature - 0.15), 0
        else:
            temperature, stalled = min(1.2, temperature + 0.25), stalled + 1
    return best_solution
