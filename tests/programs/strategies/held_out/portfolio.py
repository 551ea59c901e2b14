# strategies: ensembles
from helpers import extract_code

GLUE = '''
def algorithm(*args):
    for source in SOURCES:
        space = {}
        try:
            exec(source, space)
            return space["algorithm"](*args)
        except Exception:
            continue
'''


def improve_algorithm(initial_solution, utility, language_model):
    message = "Improve:\n" + initial_solution + "\n" + utility.str
    replies = language_model.prompt("expert", message, n_responses=3, temperature=1.0)
    members = [code for code in extract_code(replies) if code]
    # one program that holds them all
    combined = "SOURCES = " + repr(members + [initial_solution]) + GLUE
    return combined
