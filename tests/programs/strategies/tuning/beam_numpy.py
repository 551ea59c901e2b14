# strategies: refinement, beam, temperature_schedule
import numpy as np
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    programs, values = [initial_solution], [utility(initial_solution)]
    width = 3
    for round_no in range(language_model.budget):
        heat = 1.0 / (1 + round_no)
        order = np.argsort(values)[::-1][:width]
        chosen = [programs[i] for i in order]
        prompts = [f"Better version please:\n{p}\n{utility.str}" for p in chosen]
        answers = language_model.batch_prompt("expert", prompts, temperature=heat)
        for a in answers:
            code = extract_code(a)
            if code:
                programs.append(code)
                values.append(utility(code))
    return programs[int(np.argmax(values))]
