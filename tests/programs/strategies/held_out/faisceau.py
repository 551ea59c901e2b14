# strategies: refinement, beam, feedback
from helpers import extract_code


def consigne(programme, note, utility):
    return (
        f"Ce programme obtient la note {note:.3f} :\n{programme}\n"
        f"La note est calculée ainsi :\n{utility.str}\nPropose une meilleure version."
    )


def improve_algorithm(initial_solution, utility, language_model):
    # On garde les meilleurs programmes de chaque tour et on les améliore tous.
    largeur = 2
    notes = [(utility(initial_solution), initial_solution)]
    for tour in range(language_model.budget):
        messages = [consigne(p, n, utility) for n, p in notes]
        reponses = language_model.batch_prompt("Expert en algorithmique", messages)
        for programme in extract_code(reponses):
            if programme:
                notes.append((utility(programme), programme))
        notes.sort(reverse=True)
        del notes[largeur:]
    return notes[0][1]
