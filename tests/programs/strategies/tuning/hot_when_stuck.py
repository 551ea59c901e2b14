# strategies: refinement, temperature_schedule, caching
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    state = {"program": initial_solution, "score": utility(initial_solution), "heat": 0.4, "stuck": 0}
    visited = {hash(initial_solution)}
    while language_model.remaining > 0:
        prompt = "Improve\n" + state["program"] + "\naccording to\n" + utility.str
        reply = language_model.prompt("expert", prompt, temperature=state["heat"])[0]
        code = extract_code(reply)
        if not code or hash(code) in visited:
            state["stuck"] += 1
        else:
            visited.add(hash(code))
            s = utility(code)
            if s > state["score"]:
                state.update(program=code, score=s, stuck=0, heat=0.4)
            else:
                state["stuck"] += 1
        if state["stuck"] > 2:
            state["heat"] = min(1.5, state["heat"] + 0.2)
    return state["program"]
