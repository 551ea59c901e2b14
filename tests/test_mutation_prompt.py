"""Reading programs out of prompts: fences inside fences, donors, and prompts that hold none."""

import ast
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.mutation.prompt import fenced_programs, read_programs

PLAIN = "def algorithm(n):\n    return n + 1"
OTHER = "def algorithm(n):\n    return n - 1"
UTILITY = "def utility(program):\n    return run(program)"
BUILDS_PROMPTS = '''def improve(program, score, model):
    message = f"""Make it better:
```python
{program}
```
It is judged by:
```python
{score.str}
```
"""
    return model.ask(message).split("```")[1]'''


def fenced(*programs, language="python"):
    return "\n\nsome words\n\n".join(f"```{language}\n{program}\n```" for program in programs)


def texts(message):
    return [text for text, _ in fenced_programs(message)]


def test_the_first_program_with_a_function_is_the_one_to_improve():
    found = read_programs(fenced("x = 1", PLAIN, UTILITY))
    assert found.program == PLAIN
    assert found.donors == ()


def test_later_programs_with_the_same_function_are_donors():
    found = read_programs(fenced(PLAIN, UTILITY, OTHER, PLAIN, OTHER))
    assert found == (PLAIN, (OTHER,))


@pytest.mark.parametrize("language", ["python", "py", ""])
def test_a_fence_need_not_name_its_language(language):
    assert read_programs(fenced(PLAIN, OTHER, language=language)) == (PLAIN, (OTHER,))


def test_fences_inside_strings_of_a_program_do_not_end_it():
    found = read_programs(f"Improve:\n{fenced(BUILDS_PROMPTS, UTILITY)}\nGo on.")
    assert found.program == BUILDS_PROMPTS
    assert texts(fenced(BUILDS_PROMPTS, UTILITY)) == [BUILDS_PROMPTS, UTILITY]


def test_fences_inside_one_line_strings_do_not_end_it():
    one_line = ast.unparse(ast.parse(BUILDS_PROMPTS))
    assert texts(fenced(one_line, UTILITY)) == [one_line, UTILITY]


def test_a_program_with_an_odd_number_of_fences_is_read_whole():
    odd = 'def algorithm(text):\n    return text.split("```")[0]'
    assert texts(fenced(odd, PLAIN)) == [odd, PLAIN]


def test_blocks_that_are_no_python_are_passed_over():
    message = f"```text\nsome words, no program\n```\nOK\n```json\n{{\n```\n{fenced(PLAIN)}"
    assert read_programs(message).program == PLAIN


@pytest.mark.parametrize(
    "message",
    ["", "no fence", "```python\nx = 1\n```", "```python\ndef f(:\n```", "```" * 7, "`" * 9],
)
def test_a_prompt_without_a_program_has_none(message):
    assert read_programs(message).program is None


def test_an_open_fence_holds_no_program():
    assert read_programs(f"```python\n{PLAIN}").program is None


@given(
    st.lists(st.sampled_from(["```", "```python", "\n", PLAIN, "x = 1", "'", '"""', "\0", "\\"]))
)
def test_any_order_of_fences_and_programs_is_read_without_an_error(pieces):
    for text in texts("\n".join(pieces)):
        ast.parse(text)


@pytest.mark.parametrize(
    "message",
    [
        "```" * 100_000,
        "```python\n" * 30_000,
        "```python\nx = (\n```\n" * 10_000,
        "```python\n" + "(" * 5_000 + "\n```",
        "```python\n" + "-" * 100_000 + "1\n```",
        "```python\n" + "1+" * 20_000 + "1\n```",
        "```python\ndef f():\n return " + "[" * 80 + "]" * 80 + "\n```",
    ],
    ids=range(7),
)
def test_a_hostile_prompt_is_read_in_bounded_time(message):
    before = time.process_time()
    read_programs(message)
    assert time.process_time() - before < 5
