"""Higher-order templates: recognised by shape, runnable alone and in pairs, true to their names."""

import ast
import re
import sys
import types
from random import Random

import pytest

from selftaught.fences import extract_code
from selftaught.improver import improver_names, load_improver
from selftaught.language_model import Request
from selftaught.mutation import MutationProposer
from selftaught.mutation.draft import Draft
from selftaught.mutation.screen import Screen
from selftaught.mutation.shape import find_shape
from selftaught.mutation.templates import TEMPLATES

SEED_IMPROVER = '''"""A first improver: one round of requests, and the best answer wins."""

from helpers import extract_code


def improve_algorithm(initial_solution, utility, language_model):
    """Return the best of several answers to one prompt."""
    expertise = "You make search algorithms better."
    message = f"""A program:
```python
{initial_solution}
```

What judges it:
```python
{utility.str}
```

Think of a way to raise its value, then give the whole program in one block."""
    n_messages = min(language_model.max_responses_per_call, utility.budget)
    answers = language_model.batch_prompt(expertise, [message] * n_messages, temperature=0.7)
    candidates = extract_code(answers)
    best = max(candidates, key=utility)
    return best
'''

OTHER_NAMES = """def refine(draft, judge, writer, rounds=3):
    texts = writer.variants(draft, count=4, warmth=0.5)
    kept = [text for text in texts if text]
    return max(kept, key=lambda text: judge(text))
"""

START = "def algorithm():\n    return 100\n"
BY_NAME = {template.edit.__name__: template.edit for template in TEMPLATES}


class BudgetSpent(Exception):
    """Raised by the fake language model when it is asked once too often."""


# What a mutated improver may fail with here; anything else would be a fault of the test.
FAILURES = (
    BudgetSpent, ArithmeticError, AssertionError, AttributeError, LookupError, NameError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


class FakeUtility:
    """The number that a program returns; 0 once the budget is spent."""

    str = "def utility(program):\n    return run(program)"
    initial = 100

    def __init__(self, budget=25):
        self.budget = budget
        self.uses = 0
        self.asked = []

    def __call__(self, program):
        if self.uses >= self.budget:
            return 0
        self.uses += 1
        self.asked.append(program)
        return number_in(program)

    def map(self, programs):
        return [self(program) for program in programs]


class FakeModel:
    """Answers with the program of the prompt, its number moved by one of `moves`."""

    def __init__(self, moves=(-30, -10, -3, 5, 10), budget=4, per_call=6, seed=0):
        self.moves = moves
        self.budget = budget
        self.max_responses_per_call = per_call
        self.refused = 0
        self.parents = []
        self.temperatures = []
        self.random = Random(seed)

    def prompt(self, expertise, message, n_responses=1, temperature=0.7):
        return self.batch_prompt(expertise, [message] * n_responses, temperature)

    def batch_prompt(self, expertise, message_batch, temperature=0.7):
        assert isinstance(expertise, str)
        assert 0 <= temperature <= 2
        if len(self.parents) >= self.budget or len(message_batch) > self.max_responses_per_call:
            self.refused += 1
            raise BudgetSpent("The budget is spent.")
        self.parents.append(number_in(message_batch[0]) if message_batch else None)
        self.temperatures.append(temperature)
        return [self.answer(number_in(message)) for message in message_batch]

    def answer(self, number):
        new = number + self.random.choice(self.moves)
        return f"An idea.\n```python\ndef algorithm():\n    return {new}\n```"

    def variants(self, text, count, warmth):
        answers = self.batch_prompt("", [text] * count, warmth)
        return [extract_code(answer) for answer in answers]


def number_in(text):
    found = re.search(r"return (-?\d+)", text) if isinstance(text, str) else None
    return int(found.group(1)) if found else 0


@pytest.fixture(autouse=True)
def helpers_module(monkeypatch):
    """The module that improvers import `extract_code` from."""
    module = types.ModuleType("helpers")
    module.extract_code = extract_code
    monkeypatch.setitem(sys.modules, "helpers", module)


def run(improver, utility=None, model=None, entry="improve_algorithm"):
    """Run an improver on START; return the number of its result, the utility and the model."""
    utility = utility or FakeUtility()
    model = model or FakeModel()
    names = {"__name__": "improver"}
    exec(compile(improver, "improver", "exec"), names)
    result = names[entry](START, utility, model)
    assert isinstance(result, str)
    assert utility.uses <= utility.budget
    assert len(model.parents) <= model.budget
    return number_in(result), utility, model


def apply(name, source, seed=0):
    """Apply a template to a program; return the screened text, or None where it does not fit."""
    screen = Screen(source)
    draft = Draft(screen.draft())
    shape = find_shape(draft)
    assert shape is not None
    before = ast.dump(draft.tree)
    if not BY_NAME[name](draft, shape, Random(seed)):
        assert ast.dump(draft.tree) == before, f"{name} changed what it declined"
        return None
    verdict = screen.judge(draft.tree)
    assert verdict.source is not None, f"{name}: {verdict.fault}"
    return verdict.source


def apply_all(*names, source=SEED_IMPROVER, seed=0):
    for name in names:
        source = apply(name, source, seed)
        assert source is not None, name
    return source


# Templates that change a loop need one to change.
PREPARED = {"stop_early": "climb_inside", "unwrap": "iterate"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", BY_NAME)
def test_each_template_alone_gives_an_improver_that_runs_within_its_budgets(name, seed):
    source = SEED_IMPROVER
    if name in PREPARED:
        source = apply_all(PREPARED[name])
    new = apply(name, source, seed)
    if new is None:
        # One of the ways to guard does not fit every choice; all others always do here.
        assert name == "guard_candidates"
        return
    value, utility, model = run(new)
    assert value >= 90
    assert len(model.parents) >= 1
    assert utility.uses >= 1


def test_every_pair_of_templates_runs():
    runnable = tried = 0
    for first in BY_NAME:
        for second in BY_NAME:
            source = apply(
                first, apply_all(PREPARED[first]) if first in PREPARED else SEED_IMPROVER
            )
            new = source and apply(second, source, seed=1)
            if not new:
                continue
            tried += 1
            try:
                run(new)
                runnable += 1
            except FAILURES:
                pass
    assert tried > 120
    assert runnable >= 0.95 * tried


def test_the_seed_improver_drops_its_input_where_all_answers_are_worse():
    value, _, model = run(SEED_IMPROVER, model=FakeModel(moves=(-5, -7)))
    assert value < 100
    assert len(model.parents) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["keep_incumbent", "climb", "climb_inside", "restart", "keep_top"])
def test_what_keeps_the_incumbent_never_returns_a_worse_program(name, seed):
    value, _, _ = run(apply(name, SEED_IMPROVER, seed), model=FakeModel(moves=(-5, -7)))
    assert value == 100


def test_keeping_the_incumbent_also_fits_a_program_without_a_final_choice():
    source = SEED_IMPROVER.replace("max(candidates, key=utility)", "utility and candidates[0]")
    source = source.replace(
        "    return best", "    print(end=str(utility(best))[:0])\n    return best"
    )
    value, _, _ = run(apply("keep_incumbent", source), model=FakeModel(moves=(-5, -7)))
    assert value == 100


@pytest.mark.parametrize("name", ["climb", "climb_inside"])
def test_climbing_asks_for_the_best_so_far_and_spends_every_call(name):
    improver = next(
        source
        for source in (apply(name, SEED_IMPROVER, seed) for seed in range(20))
        if "range(20)" in source
    )
    value, utility, model = run(improver, FakeUtility(budget=40), FakeModel(moves=(-9, -4, 6)))
    assert len(model.parents) == model.budget == 4
    assert model.parents == sorted(model.parents)
    assert value == max(map(number_in, utility.asked))
    assert value > 110


def test_climbing_inside_scores_every_candidate_once():
    improver = apply_all("climb_inside", "use_whole_budget")
    _, utility, model = run(improver)
    assert utility.uses == 25 == 1 + 6 * len(model.parents)


def test_iterating_feeds_the_result_back_even_where_it_is_worse():
    _, _, model = run(apply("iterate", SEED_IMPROVER), model=FakeModel(moves=(-5,)))
    assert model.parents[:3] == [100, 95, 90]


def test_restarting_without_a_loop_starts_every_request_from_the_initial_solution():
    _, _, model = run(apply("restart", SEED_IMPROVER), model=FakeModel(moves=(5,)))
    assert len(model.parents) > 1
    assert set(model.parents) == {100}


def test_restarting_in_a_loop_starts_some_requests_from_the_initial_solution():
    improver = apply_all("climb", "restart")
    _, _, model = run(improver, FakeUtility(200), FakeModel(moves=(5,), budget=9))
    assert model.parents.count(100) > 1
    assert len(set(model.parents)) > 2


def test_keeping_the_best_few_takes_parents_in_turn():
    improver = apply("keep_top", SEED_IMPROVER, seed=1)
    model = FakeModel(moves=(1,), budget=6)
    _, _, model = run(improver, FakeUtility(200), model)
    assert model.parents[0] == 100
    assert len(set(model.parents)) > 1
    assert model.parents != sorted(set(model.parents))


@pytest.mark.parametrize("first", ["climb", "climb_inside", "iterate", "keep_top", None])
def test_using_the_whole_budget_spends_every_call_and_survives_the_refusal(first):
    source = apply_all(first) if first else SEED_IMPROVER
    for seed in range(3):
        _, _, model = run(apply("use_whole_budget", source, seed), model=FakeModel(budget=9))
        assert len(model.parents) == 9
        assert model.refused >= 1


def test_stopping_early_ends_the_loop_after_a_pass_that_changed_nothing():
    improver = apply_all("climb_inside", "stop_early")
    _, _, model = run(improver, model=FakeModel(moves=(-5,)))
    assert len(model.parents) == 1
    assert model.refused == 0


def test_unwrapping_takes_back_the_loop():
    assert apply_all("iterate", "unwrap") == Screen(SEED_IMPROVER).source.replace(
        '    """Return the best of several answers to one prompt."""\n', ""
    )


def test_falling_back_returns_the_input_where_the_improver_fails():
    value, _, model = run(apply("fall_back", SEED_IMPROVER), model=FakeModel(budget=0))
    assert value == 100
    assert model.refused == 1


def test_spreading_a_request_joins_the_answers_of_several_calls():
    _, utility, model = run(apply("spread_request", SEED_IMPROVER))
    assert len(model.parents) > 1
    assert utility.uses == 6 * len(model.parents)


def test_varying_a_constant_without_a_loop_asks_at_several_temperatures():
    _, utility, model = run(apply("vary_constant", SEED_IMPROVER))
    assert len(set(model.temperatures)) > 1
    assert utility.uses == 6 * len(model.parents)


@pytest.mark.parametrize("first", ["climb", "climb_inside"])
def test_varying_a_constant_in_a_loop_changes_it_from_pass_to_pass(first):
    for seed in range(6):
        _, _, model = run(apply("vary_constant", apply_all(first), seed))
        assert len(set(model.temperatures)) > 1


def test_remembering_scores_asks_for_each_program_once():
    improver = apply_all("keep_incumbent", "climb", "remember_scores")
    _, utility, model = run(improver, FakeUtility(100), FakeModel(moves=(1, 2)))
    assert len(model.parents) > 1
    assert len(utility.asked) == len(set(utility.asked))


def test_a_remembering_score_still_shows_the_attributes_of_the_utility():
    assert "utility.budget" in apply("remember_scores", SEED_IMPROVER)
    _, _, model = run(apply("remember_scores", SEED_IMPROVER))
    assert model.parents == [100]


def test_guarding_leaves_out_none_or_doubles_or_survives_a_failing_score():
    class Half(FakeModel):
        def answer(self, number):
            return super().answer(number) if self.random.random() < 0.5 else "No code."

    class Touchy(FakeUtility):
        def __call__(self, program):
            if program is None:
                raise ValueError("nothing to score")
            return super().__call__(program)

    seen = set()
    for seed in range(12):
        improver = apply("guard_candidates", SEED_IMPROVER, seed)
        if improver is None:
            continue
        if "is not None" in improver:
            seen.add("none")
            value, utility, _ = run(improver, Touchy(), Half())
            assert None not in utility.asked
            assert run(improver, Touchy(), Half(per_call=0))[0] == 100
        elif "fromkeys" in improver:
            seen.add("doubles")
            _, utility, _ = run(improver, model=FakeModel(moves=(1, 2)))
            assert len(utility.asked) == len(set(utility.asked))
        else:
            seen.add("failing")
            value, _, _ = run(improver, Touchy(), Half())
            assert value > 0
    assert seen == {"none", "doubles", "failing"}


def test_the_shape_is_found_by_what_parameters_do_and_not_by_their_names():
    shape = find_shape(Draft(ast.parse(OTHER_NAMES)))
    assert shape is not None
    assert (shape.solution, shape.score, shape.source) == ("draft", "judge", "writer")
    for name in BY_NAME:
        for seed in range(3):
            new = apply(name, OTHER_NAMES, seed)
            if new is not None:
                run(new, entry="refine")


@pytest.mark.parametrize("name", sorted(set(improver_names()) - {"identity"}))
def test_every_shipped_improver_that_asks_has_the_shape(name):
    shape = find_shape(Draft(ast.parse(load_improver(name).source)))
    assert shape is not None
    assert shape[1:] == ("initial_solution", "utility", "language_model")


@pytest.mark.parametrize(
    "program",
    [
        "def f(x, score):\n    return max([x], key=score)\n",
        "def f(x, score, source):\n    return source.ask(x, 1)\n",
        "def f(x, score, source):\n    return max([x], key=score)\n",
        "def f(x, score, source):\n    return score(source.ask(x, 1)) > 0\n",
        "def f(x, *, score, source):\n    return max(source.ask(x, 1), key=score)\n",
        "def f(a, b, c):\n    return sorted(a, key=lambda i: b[i])[c.index(1)]\n",
        "x = 1\n",
    ],
)
def test_programs_of_another_shape_get_no_template(program):
    assert find_shape(Draft(ast.parse(program))) is None


def test_loops_do_not_pile_up_without_end():
    source = SEED_IMPROVER
    for seed in range(8):
        source = apply("iterate", source, seed) or source
    assert source.count("_step(") + source.count("_step_2(") == 4
    run(source)


def improver_texts(templates, number=200, temperature=0.7):
    request = Request(
        expertise="",
        message=f"Improve:\n```python\n{SEED_IMPROVER}\n```",
        n_responses=number,
        temperature=temperature,
    )
    return MutationProposer(templates).respond(request, seed=1, occurrence=0, key="").texts


def test_a_large_share_of_proposals_for_an_improver_are_templates():
    words = [template.words for template in TEMPLATES]
    texts = improver_texts(templates=True, temperature=0.0)
    share = sum(any(word in text.splitlines()[0] for word in words) for text in texts) / len(texts)
    assert 0.35 < share < 0.6


def test_without_templates_none_is_used():
    words = [template.words for template in TEMPLATES]
    for text in improver_texts(templates=False, number=60):
        assert not any(word in text.splitlines()[0] for word in words)
        assert "_step" not in text


def test_most_proposals_for_the_seed_improver_run():
    runnable = 0
    texts = improver_texts(templates=True)
    for text in texts:
        try:
            run(extract_code(text))
            runnable += 1
        except FAILURES:
            pass
    assert runnable > 0.7 * len(texts)


class ImproverUtility(FakeUtility):
    """What an improver reaches on average: a meta-utility over fake tasks."""

    str = "def utility(improver):\n    return mean(run(improver, task) for task in tasks)"

    def __call__(self, program):
        if self.uses >= self.budget:
            return 0
        self.uses += 1
        return meta_utility(program)


class ImproverModel(FakeModel):
    """The mutation proposer behind the improver API."""

    def __init__(self, seed):
        super().__init__(per_call=24)
        self.run_seed = seed
        self.occurrences = 0

    def batch_prompt(self, expertise, message_batch, temperature=0.7):
        super().batch_prompt(expertise, message_batch, temperature)
        texts = []
        for message in message_batch:
            request = Request(expertise=expertise, message=message, temperature=temperature)
            proposer = MutationProposer()
            answer = proposer.respond(
                request, seed=self.run_seed, occurrence=self.occurrences, key=""
            )
            self.occurrences += 1
            texts.extend(answer.texts)
        return texts


def meta_utility(improver):
    total = 0.0
    for seed in range(8):
        try:
            total += run(improver, model=FakeModel(seed=seed))[0]
        except FAILURES:
            continue
    return total / 8


@pytest.mark.parametrize("seed", [1, 2])
def test_three_rounds_from_the_seed_improver_reach_hill_climbing(seed):
    improver = SEED_IMPROVER
    for round_number in range(3):
        names = {}
        exec(improver, names)
        model = ImproverModel(seed * 10 + round_number)
        improver = names["improve_algorithm"](improver, ImproverUtility(), model)
    _, _, model = run(improver)
    assert len(model.parents) == model.budget
    assert meta_utility(improver) > meta_utility(SEED_IMPROVER) + 10
    value, _, _ = run(improver, model=FakeModel(moves=(-5, -7)))
    assert value == 100
