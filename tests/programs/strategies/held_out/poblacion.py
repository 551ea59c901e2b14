# strategies: refinement, genetic, caching
import random

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    # población de programas: cada generación elige padres al azar y los modifica
    poblacion = {initial_solution: utility(initial_solution)}
    vistos = {initial_solution}
    quedan = language_model.budget
    while quedan:
        quedan -= 1
        padres = [random.choice(list(poblacion)) for _ in range(3)]
        mensajes = [f"Mejora este programa:\n{p}\nMedida:\n{utility.str}" for p in padres]
        hijos = extract_code(language_model.batch_prompt("programador experto", mensajes))
        for hijo in hijos:
            if not hijo or hijo in vistos:  # ya evaluado
                continue
            vistos.add(hijo)
            poblacion[hijo] = utility(hijo)
        mejores = sorted(poblacion, key=poblacion.get, reverse=True)[:5]
        poblacion = {p: poblacion[p] for p in mejores}
    return max(poblacion, key=poblacion.get)
