# strategies: best_of_n, caching
from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    """Zehn Entwürfe, der beste gewinnt; was schon bewertet ist, wird nicht noch einmal bewertet."""
    noten = {initial_solution: utility(initial_solution)}

    def note(programm):
        # Nachschlagen ist billiger als neu bewerten.
        if programm in noten:
            return noten[programm]
        wert = utility(programm)
        noten[programm] = wert
        return wert

    auftrag = "Verbessere dieses Programm:\n%s\nBewertung:\n%s" % (initial_solution, utility.str)
    entwuerfe = []
    while len(entwuerfe) < 10:
        try:
            antworten = language_model.prompt("Fachmann für Algorithmen", auftrag, n_responses=2)
        except RuntimeError:
            break
        entwuerfe.extend(filter(None, extract_code(antworten)))
    for entwurf in entwuerfe:
        note(entwurf)
    return sorted(noten.items(), key=lambda paar: paar[1])[-1][0]
