"""Mixes: the draw follows from the request, by weight, and is recorded."""

from collections import Counter
from pathlib import Path

import pytest

from selftaught.errors import UsageError
from selftaught.events import Answered
from selftaught.improver import load_improver
from selftaught.language_model import Request
from selftaught.models.mix import MixedModel, Part, members, parse_mix
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.models.resolve import resolve_model
from selftaught.runs.config import RunConfig, is_mutation
from selftaught.runs.launch import start
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import LanguageModelContract, LoopbackServer, ScriptedModel

PROGRAM = "```python\ndef algorithm(x):\n    return x + 7\n```"


def saying(name: str) -> ScriptedModel:
    return ScriptedModel(lambda request, seed, occurrence: [name] * request.n_responses, name=name)


def mixed(*weights: float) -> MixedModel:
    names = "abcdef"[: len(weights)]
    return MixedModel("mix", [(saying(n), w) for n, w in zip(names, weights, strict=True)])


class TestAMixKeepsTheContract(LanguageModelContract):
    repeats_itself = True

    @pytest.fixture
    def model(self) -> MixedModel:
        return mixed(0.7, 0.3)


def drawn(model: MixedModel, number: int, *, seed: int = 0, occurrence: int = 0) -> str:
    request = Request(expertise="e", message=str(number))
    answer = model.respond(request, seed=seed, occurrence=occurrence, key=f"{number}")
    assert answer.texts == (answer.model,)
    return answer.model


def test_models_are_drawn_by_weight_from_seed_content_and_occurrence() -> None:
    model = mixed(7, 3)
    first = [drawn(model, i) for i in range(2000)]
    assert 1300 < Counter(first)["a"] < 1500
    # In another order, with others in between, and from a model made anew: the same.
    assert [drawn(mixed(7, 3), i) for i in reversed(range(2000))] == first[::-1]
    assert [drawn(model, i, seed=1) for i in range(2000)] != first
    assert [drawn(model, 0, occurrence=i) for i in range(100)].count("a") < 90


def test_the_number_of_responses_does_not_change_who_answers() -> None:
    model = mixed(1, 1)
    for number in range(20):
        request = Request(expertise="e", message=str(number), n_responses=5)
        answer = model.respond(request, seed=0, occurrence=0, key="k")
        assert answer.model == drawn(model, number)


def test_a_mix_is_written_with_weights() -> None:
    parts = parse_mix("openai/llama3:8b:0.5, local/a.gguf:2")
    assert parts == (Part("openai/llama3:8b", 0.5), Part("local/a.gguf", 2.0))
    assert parse_mix("openai/llama3:8b") == ()
    assert members("mutation") == ("mutation",)


def test_it_is_mutation_only_where_no_language_model_can_answer() -> None:
    for name in ("mutation", "mutation-first-order:1,mutation:2", "bandit(mutation,mutation-x)"):
        assert is_mutation(RunConfig(command="run", tasks=(), model=name))
    for name in ("openai/mutation", "mutation:1,openai/a:1", "bandit(mutation,openai/a)"):
        assert not is_mutation(RunConfig(command="run", tasks=(), model=name))


@pytest.mark.parametrize(
    "name", ["openai/a,openai/b", "openai/a:0,openai/b:1", "a:1,", ":1,b:1", "a:nan,b:1", "a:x,b:1"]
)
def test_what_is_no_mix_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"needs a name and a weight"):
        parse_mix(name)
    with pytest.raises(UsageError, match="once"):
        parse_mix("a:1,a:2")


def test_closing_a_mix_closes_its_models() -> None:
    model = resolve_model("mutation:1,openai/a:1", base_url="http://127.0.0.1:1/v1", environment={})
    assert isinstance(model, MixedModel)
    assert model.is_language_model
    asked = next(one for one in model._models if isinstance(one, OpenAICompatibleModel))
    model.close()
    assert asked._gate.is_closed


def test_a_run_records_which_model_of_a_mix_answered(toy_folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    with LoopbackServer(lambda received, index: PROGRAM) as server:
        start(
            RunConfig(
                command="improve",
                tasks=(str(toy_folder),),
                improvers=tuple((n, load_improver(n).source) for n in ("greedy", "best_of_n")),
                model="openai/a:0.5,openai/b:0.5",
                base_url=server.url,
                slots=1,
            ),
            store,
            environment={},
        )
        asked = Counter(f"openai/{received.body['model']}" for received in server.log)
    with SQLiteStore.open(store, writable=False) as opened:
        events = [event for _, _, event in opened.events(opened.resolve("latest"))]
    assert Counter(e.model for e in events if isinstance(e, Answered)) == asked
    assert set(asked) == {"openai/a", "openai/b"}
