"""First-order operators: each does what its name says, declines without a trace, and repeats."""

import ast
from collections import Counter
from random import Random

import pytest

from selftaught.mutation import edits_expressions, edits_statements, edits_values
from selftaught.mutation.draft import Draft
from selftaught.mutation.edits_values import varied
from selftaught.mutation.operators import FIRST_ORDER, draw
from selftaught.mutation.syntax import parse

SEARCH = '''
import math
import random


def length(tour, points):
    """The length of a closed tour."""
    total = 0.0
    for i in range(len(tour)):
        a, b = points[tour[i - 1]], points[tour[i]]
        total += math.hypot(a[0] - b[0], a[1] - b[1])
    return total


def algorithm(points):
    n = len(points)
    tour = list(range(n))
    best = length(tour, points)
    step = 0
    while step < 40:
        i, j = sorted(random.sample(range(n), 2))
        other = tour[:i] + tour[i:j][::-1] + tour[j:]
        value = length(other, points)
        if value < best and i != j or not best:
            tour, best = other, value
        else:
            step += 1
        step += 1
    if best > 1e9:
        best = abs(best)
    return min([tour, tour], key=lambda t: length(t, points))
'''
VERSION = SEARCH.replace("step < 40", "step < 400").replace("total = 0.0", "total = zero()")
VERSION = VERSION.replace("def algorithm", "def zero():\n    return 0.0\n\n\ndef algorithm")

BY_NAME = {operator.edit.__name__: operator.edit for operator in FIRST_ORDER}


def results(name, program, donors=(), seeds=40):
    """The different programs that an operator makes of one."""
    made = set()
    for seed in range(seeds):
        draft = Draft(ast.parse(program), tuple(map(ast.parse, donors)))
        before = ast.dump(draft.tree)
        if BY_NAME[name](draft, Random(seed)):
            made.add(ast.unparse(draft.tree))
        else:
            assert ast.dump(draft.tree) == before
    return made


def body(expression, *, before=""):
    return ast.unparse(ast.parse(f"def f(a, b, c):\n    {before}return {expression}"))


def returned(name, expression, **options):
    """What an operator makes of a returned expression."""
    prefix = "return "
    return {text.rpartition(prefix)[2] for text in results(name, body(expression), **options)}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_operator_fits_a_search_program_and_yields_a_program(name):
    made = results(name, SEARCH, donors=[VERSION], seeds=25)
    assert made
    for text in made:
        assert parse(text) is not None


@pytest.mark.parametrize("name", BY_NAME)
def test_every_operator_declines_a_program_without_a_place_for_it(name):
    assert results(name, "def f():\n    pass\n", seeds=3) == set()
    assert results(name, "import math\n", seeds=3) == set()


@pytest.mark.parametrize("name", BY_NAME)
def test_every_operator_repeats_itself(name):
    for seed in range(5):
        made = []
        for _ in range(2):
            draft = Draft(ast.parse(SEARCH), (ast.parse(VERSION),))
            BY_NAME[name](draft, Random(seed))
            made.append(ast.unparse(draft.tree))
        assert made[0] == made[1]


def test_operators_are_drawn_by_weight():
    random = Random(1)
    counts = Counter(draw(FIRST_ORDER, random).words for _ in range(5000))
    total = sum(operator.weight for operator in FIRST_ORDER)
    for operator in FIRST_ORDER:
        assert counts[operator.words] / 5000 == pytest.approx(operator.weight / total, abs=0.02)


def test_a_varied_integer_is_another_integer_and_a_float_stays_one():
    random = Random(2)
    for value in (0, 1, 7, -3, 10**400):
        for _ in range(50):
            new = varied(value, random)
            assert isinstance(new, int)
            assert new != value
            assert abs(new) <= 10**9 + 1
    for number in (0.0, 0.5, -2.0, 1e300, float("inf")):
        assert all(isinstance(varied(number, random), float) for _ in range(50))


def test_constants_change_and_true_is_no_number():
    assert len(returned("change_constant", "a + 10")) > 10
    assert returned("change_constant", "[True, None, 'text', f'{a} 3']") == set()


def test_loop_bounds_change_and_other_numbers_do_not():
    made = results(
        "change_loop_bound", "def f(x):\n    for i in range(12):\n        x += 5\n    return x"
    )
    assert {3, 6, 24, 36, 60, 120} >= {
        int(text.partition("range(")[2].partition(")")[0])
        for text in made
        if "range(12" not in text
    }
    assert all("x += 5" in text for text in made)
    assert returned("change_loop_bound", "a + 3") == set()


def test_arithmetic_is_swapped_for_arithmetic():
    assert returned("swap_arithmetic", "a - b", seeds=90) == {
        "a + b", "a * b", "a / b", "a // b", "a % b", "b - a",
    }  # fmt: skip
    assert returned("swap_arithmetic", "[a] + [b]") == set()


def test_comparisons_are_swapped_for_comparisons_of_their_kind():
    assert returned("swap_comparison", "a < b") == {"a <= b", "a > b", "a >= b"}
    assert returned("swap_comparison", "a == b") == {"a != b"}
    assert returned("swap_comparison", "a is b") == {"a is not b"}
    assert returned("swap_comparison", "a in b") == {"a not in b"}


def test_conditions_change_their_logic():
    assert "a or b" in returned("swap_boolean", "a and b")
    program = "def f(a):\n    if not a:\n        return 1\n    return 2"
    assert results("swap_boolean", program) == {program.replace("not a", "a")}


def test_updates_change_their_operator():
    made = results("change_augmented_assignment", "def f(a):\n    a += 2\n    return a")
    lines = {text.splitlines()[1].strip() for text in made}
    assert {"a -= 2", "a *= 2", "a = 2"} <= lines <= {"a -= 2", "a *= 2", "a /= 2", "a = 2"}


def test_numbers_are_wrapped_and_scaled():
    assert returned("wrap_number", "a * b") == {"abs(a * b)", "-(a * b)"}
    assert all(text.startswith("a * b") for text in returned("scale_number", "a * b"))
    assert returned("wrap_number", "'text'") == set()


def test_slices_move_their_bounds():
    made = returned("change_slice", "a[1:b]")
    assert {"a[:b]", "a[1:]", "a[1:b:-1]", "a[1:b + 1]", "a[1 + 1:b]"} <= made
    assert returned("change_slice", "a[1]") == set()


def test_a_hoisted_constant_is_used_in_two_places():
    for text in results("hoist_constant", 'def f(a):\n    """Doc."""\n    return a * 2 + 3'):
        assert text.count("amount") == 3
        assert text.index("Doc") < text.index("amount")
    assert returned("hoist_constant", "a * 2 + 0.5") == set()


def test_related_functions_stand_in_for_one_another():
    assert returned("change_sibling_call", "min(a, b)") == {"max(a, b)"}
    assert returned("change_sibling_call", "any(a)") == {"all(a)"}
    assert returned("change_sibling_call", "min(a, key=len)") >= {"max(a, key=len)", "sum(a)"}
    assert returned("change_sibling_call", "sorted(a)") == {"list(a)", "list(reversed(a))"}
    assert returned("change_sibling_call", "a.floor(b)") == {"a.ceil(b)"}
    assert returned("change_sibling_call", "a.randrange(b)") == set()
    assert returned("change_sibling_call", "unknown(a)") == set()


def test_variables_are_replaced_by_those_of_the_same_scope_and_use():
    assert returned("replace_variable", "a + b") == {"a + a", "b + b", "a + c", "c + b"}
    assert returned("replace_variable", "a[b] + len(c)", seeds=80) == {
        "c[b] + len(c)",
        "a[b] + len(a)",
    }


def test_expressions_are_replaced_by_others_of_their_kind():
    made = returned("replace_expression", "(a * 2, b > 1)", seeds=100)
    assert "(2, b > 1)" in made
    assert "(a * 2, a * 2)" not in made


def test_expressions_shrink_to_their_parts():
    assert returned("shrink_expression", "a * 2") == {"a", "2"}
    assert returned("shrink_expression", "a and b") == {"a", "b"}
    assert returned("shrink_expression", "a if b else c") == {"a", "c"}
    assert returned("shrink_expression", "-a") == {"a"}
    assert returned("shrink_expression", "abs(a)") == {"a"}
    assert returned("shrink_expression", "a") == set()


def test_arguments_and_items_are_swapped():
    assert returned("swap_arguments", "g(a, b)") == {"g(b, a)"}
    assert returned("swap_arguments", "(a, b)") == {"(b, a)"}


def test_what_is_ordered_by_changes():
    made = returned("change_key_function", "max(a, key=lambda i: i[1])", seeds=90)
    assert "max(a)" in made
    assert "max(a, key=lambda i: -i[1])" in made
    assert "max(a, key=lambda i: i[0])" in made
    assert "max(a, key=lambda i: abs(i[1]))" in made
    assert "max(a, key=len)" in returned("change_key_function", "max(a)")
    assert returned("change_key_function", "max(a, b)") == set()


def test_a_function_is_applied_to_its_own_result():
    program = "def f(a, b):\n    a = step(a, b)\n    return a"
    assert results("apply_twice", program) == {program.replace("step(a, b)", "step(step(a, b), b)")}
    assert results("apply_twice", "def f(a):\n    n = len(a)\n    return n") == set()


def test_ranges_change_their_ends_and_steps():
    made = returned("change_range", "range(a)")
    assert {"range(1, a)", "range(0, a, 2)", "range(a + 1)", "range(a - 1)"} == made
    assert "range(b)" in returned("change_range", "range(a, b)")


def test_statements_are_deleted_doubled_swapped_moved_and_copied():
    program = "def f(a):\n    g(a)\n    h(a)\n    return a"
    g, h, r = "    g(a)", "    h(a)", "    return a"

    def lines(name):
        return {tuple(text.splitlines()[1:]) for text in results(name, program)}

    assert lines("delete_statement") == {(h, r), (g, r), (g, h)}
    assert lines("duplicate_statement") == {(g, g, h, r), (g, h, h, r)}
    assert (h, g, r) in lines("swap_statements")
    assert (h, g, r) in lines("move_statement")
    assert all(len(made) == 3 for made in lines("move_statement"))
    assert (g, h, g, r) in lines("graft_statement")


def test_break_is_never_carried_out_of_its_loop():
    program = "def f(a):\n    g(a)\n    while a:\n        break\n    return a"
    for name in ("move_statement", "graft_statement"):
        for text in results(name, program):
            compile(text, "program", "exec")


def test_loops_are_left_and_statements_guarded_under_conditions_of_the_program():
    program = "def f(a, b):\n    for i in a:\n        g(i)\n    return a < b"
    assert any("if a < b:\n            break" in text for text in results("exit_early", program))
    assert any(
        "if a < b:\n            g(i)" in text for text in results("guard_statement", program)
    )
    assert results("exit_early", "def f(a):\n    return a < 1") == set()


def test_branches_are_removed():
    program = "def f(a):\n    if a:\n        g()\n    else:\n        h()\n    return a"
    made = {
        tuple(line.strip() for line in t.splitlines()[1:-1])
        for t in results("remove_branch", program)
    }
    assert made == {("if a:", "g()"), ("g()",), ("h()",)}


def test_loops_run_the_other_way_round():
    assert returned("reverse_loop", "[i for i in a]") == {"[i for i in reversed(list(a))]"}
    assert returned("reverse_loop", "[i for i in range(3)]") == {"[i for i in reversed(range(3))]"}
    assert returned("reverse_loop", "[i for i in reversed(a)]") == {"[i for i in a]"}


def test_a_bounded_while_stops_where_its_condition_does():
    for text in results("bound_while", "def f(n):\n    while n > 3:\n        n -= 1\n    return n"):
        names = {}
        exec(text, names)
        assert "while" not in text
        assert names["f"](9) == 3


def test_a_repeated_statement_is_done_several_times():
    for text in results("repeat_statement", "def f(n):\n    n += 1\n    return n"):
        names = {}
        exec(text, names)
        assert names["f"](0) in (2, 3, 5)


def test_the_best_of_several_tries_is_kept_by_a_judgement_of_the_program():
    program = (
        "def cost(x, scale):\n    return x * scale\n"
        "def f(make):\n    x = make()\n    return x, cost(x, 2)"
    )
    made = results("keep_best_of_retries", program)
    assert all("key=lambda x: cost(x, 2)" in text for text in made)
    for text in made:
        names = {}
        exec(text, names)
        numbers = iter(range(50))
        best, _ = names["f"](lambda numbers=numbers: next(numbers))
        assert best == (0 if "min(" in text else next(numbers) - 1)
    assert results("keep_best_of_retries", "def f(make):\n    x = make()\n    return x") == set()


def test_crossover_takes_statements_and_functions_of_other_versions():
    assert any("step < 400" in text for text in results("cross_function", SEARCH, [VERSION]))
    taken = [t for t in results("cross_function", SEARCH, [VERSION]) if "total = zero()" in t]
    assert taken
    assert all("def zero()" in text for text in taken)
    assert results("cross_function", SEARCH) == set()
    donor = "def f(a):\n    special(a)\n    return a"
    assert any("special(a)" in t for t in results("cross_statement", body("b"), [donor]))
    assert results("cross_statement", SEARCH) == set()


def test_operators_stand_in_one_tuple_and_each_once():
    edits = [operator.edit for operator in FIRST_ORDER]
    assert len(set(edits)) == len(edits)
    modules = (edits_values, edits_expressions, edits_statements)
    assert {edit.__module__ for edit in edits} == {module.__name__ for module in modules}


def test_the_index_leaves_alone_what_no_edit_should_touch():
    program = (
        "import math\n"
        "class _Own:\n    def m(self):\n        return 1\n"
        "class Open:\n    def m(self):\n        return 2\n"
        '@deco(3)\ndef f(a: int = 4) -> "5":\n    """6"""\n    b: 7 = 8\n'
        '    return f"{9 + a}" + str(10)\n'
    )
    draft = Draft(ast.parse(program))
    numbers = [p.node.value for p in draft.places if isinstance(p.node, ast.Constant)]
    assert numbers == [2, 8, 10]
