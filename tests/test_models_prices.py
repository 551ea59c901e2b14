"""Prices: from the table or from the user, never guessed; and what a run makes of them."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_budget_of_a_run import Notes

from selftaught.budget import RunAccount, RunLimits
from selftaught.errors import Interrupted, UsageError
from selftaught.events import Answered
from selftaught.improver import load_improver
from selftaught.language_model import Answer, ModelSettings, Request, Usage
from selftaught.models import prices as price_table
from selftaught.models.broker import Broker
from selftaught.models.prices import FREE, Prices, Rate, flat, price_of
from selftaught.models.tariff import DEFAULT_OUTPUT_TOKENS, Tariff, tariff_of
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import resume, start
from selftaught.runs.result import Watch
from selftaught.store.sqlite import SQLiteStore
from selftaught.testing import LoopbackServer, ScriptedModel

NO_SETTINGS = ModelSettings()
PROGRAM = "```python\ndef algorithm(x):\n    return x + 7\n```"


def price(name, *, base_url=None, environment=None, settings=NO_SETTINGS):
    return price_of(name, base_url=base_url, environment=environment or {}, settings=settings)


@settings(deadline=None)
@given(
    st.sampled_from([("openai", "gpt-5"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro")]),
    st.integers(0, 400_000),
    st.floats(0, 1),
    st.integers(0, 50_000),
)  # fmt: skip
def test_an_answer_costs_what_the_table_says(model, prompt, cached_share, completion) -> None:
    from genai_prices import Usage as Listed
    from genai_prices import calc_price

    provider, name = model
    cached = int(prompt * cached_share)
    listed = calc_price(
        Listed(input_tokens=prompt, cache_read_tokens=cached, output_tokens=completion),
        name,
        provider_id=provider,
        genai_request_timestamp=datetime.now(UTC),
    )
    usage = Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)
    found = price(f"{provider}/{name}")
    assert found.dollars(usage) == pytest.approx(float(listed.total_price))
    assert found.dollars(usage) <= found.at_most(prompt, completion) * (1 + 1e-12)


def test_a_tier_goes_by_the_prompt_of_one_request() -> None:
    tiered = Rate(1.0, ((200_000, 2.0),))
    assert [tiered.at(tokens) for tokens in (0, 200_000, 200_001)] == [1.0, 1.0, 2.0]
    found = price("google/gemini-2.5-pro")
    usage = Usage(prompt_tokens=300_000)
    assert found.dollars(usage, requests=3) == pytest.approx(0.3 * 1.25)
    assert found.dollars(usage, requests=1) == pytest.approx(0.3 * 2.5)


def test_a_model_is_priced_at_the_endpoint_that_answers() -> None:
    assert price("openai/gpt-5") == price("openai/gpt-5", base_url="https://api.openai.com/v1")
    assert price("openai/openai/gpt-5", base_url="https://openrouter.ai/api/v1") is not None
    at_home = "http://127.0.0.1:8000/v1"
    assert price("openai/gpt-5", base_url=at_home) is None
    assert price("openai/gpt-5", environment={"OPENAI_BASE_URL": at_home}) is None
    assert price("anthropic/claude-sonnet-4-5", base_url=at_home) is None
    assert price("anthropic/claude-sonnet-4-5", environment={"OPENAI_BASE_URL": at_home})
    there = {"ANTHROPIC_BASE_URL": at_home, "GOOGLE_GEMINI_BASE_URL": at_home}
    assert price("anthropic/claude-sonnet-4-5", environment=there) is None
    assert price("google/gemini-2.5-pro", environment=there) is None


@pytest.mark.parametrize(
    "name", ["openai/no-such-model", "nobody/gpt-5", "gpt-5", "openai/", "perplexity/sonar-pro"]
)
def test_a_price_is_never_guessed(name) -> None:
    assert price(name) is None


def test_what_runs_on_this_machine_is_free_and_the_user_knows_best() -> None:
    set_by_user = ModelSettings(input_price=1.0, output_price=4.0)
    for name in ("mutation", "mutation-first-order", "local/tiny.gguf"):
        assert price(name) == price(name, settings=set_by_user) == FREE
    assert price("openai/gpt-5", settings=set_by_user) == flat(1.0, 4.0)
    assert price("openai/mine", settings=set_by_user).dollars(
        Usage(prompt_tokens=2_000_000, completion_tokens=1_000_000, cached_tokens=500_000)
    ) == pytest.approx(6.0)


@pytest.mark.parametrize(("given_", "says"), [((1.0, None), "both"), ((-1.0, 1.0), "0 or more")])
def test_half_a_price_and_a_negative_one_are_refused(given_, says) -> None:
    settings = ModelSettings(input_price=given_[0], output_price=given_[1])
    with pytest.raises(UsageError, match=says):
        price("openai/gpt-5", settings=settings)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are looked up in the table of prices."""
    found: list[str] = []

    def look_up(model: str, **where: str) -> object:
        found.append(model)
        return flat(1.0, 2.0)

    monkeypatch.setattr(price_table, "_from_table", look_up)
    return found


def prices(*names, base_url=None, settings=NO_SETTINGS) -> Prices:
    return Prices(names, base_url=base_url, environment={}, settings=settings)


def test_the_table_of_prices_is_read_when_a_price_is_wanted_and_once(looked_up: list[str]) -> None:
    late = prices("openai/a", "mutation", "local/x.gguf")
    tariff = Tariff(asked="openai/a", prices=late)
    request = Request(expertise="", message="")
    assert late.wait_for_table
    assert tariff.waits_for_table
    assert list(late) == ["openai/a", "mutation", "local/x.gguf"]
    assert tariff.worst(request, in_dollars=False).tokens == 128
    assert looked_up == []
    assert tariff.worst(request).dollars == pytest.approx(128 / 1e6)
    assert late["mutation"] == late["local/x.gguf"] == FREE
    assert tariff.unknown == []
    assert looked_up == ["a"]
    assert not tariff.waits_for_table
    with pytest.raises(KeyError):
        late["openai/b"]


@pytest.mark.parametrize(
    "given_",
    [
        {"names": ("mutation",)},
        {"names": ("openai/a",), "settings": ModelSettings(input_price=1.0, output_price=1.0)},
        {"names": ("openai/a",), "base_url": "http://127.0.0.1:8000/v1"},
        {"names": ("openai/a",), "base_url": "http://[fd00::1]/v1"},
        {"names": ("openai/a",), "base_url": "https://localhost/v1"},
        {"names": ("nobody",)},
    ],
    ids=str,
)
def test_no_table_is_read_for_what_it_does_not_hold(given_, looked_up: list[str]) -> None:
    late = prices(*given_.pop("names"), **given_)
    assert not late.wait_for_table
    dict(late)
    assert looked_up == []


def test_half_a_price_is_refused_before_anything_is_looked_up(looked_up: list[str]) -> None:
    with pytest.raises(UsageError, match="both"):
        prices("openai/a", settings=ModelSettings(input_price=1.0))
    assert looked_up == []


@pytest.mark.parametrize(("limits", "before"), [(RunLimits(), 0), (RunLimits(dollars=1.0), 1)])
def test_a_request_waits_for_the_table_where_money_is_limited_only(
    limits: RunLimits, before: int, looked_up: list[str]
) -> None:
    seen: list[int] = []

    class Model(ScriptedModel):
        def respond(self, request: Request, **where: object) -> Answer:
            seen.append(len(looked_up))
            return Answer(texts=("",), usage=Usage(prompt_tokens=1_000_000))

    tariff = Tariff(asked="openai/a", prices=prices("openai/a"), max_output_tokens=10)
    model = Model([""])
    model.is_language_model = True
    broker = Broker(model, Notes(), RunAccount(limits), lambda: None, tariff)
    answer = broker("job", Request(expertise="", message=""), 0)
    assert seen == [before]
    assert answer.usage.dollars == 1.0


def test_the_bound_counts_bytes_and_every_response() -> None:
    tariff = Tariff(asked="a", prices={"a": flat(1.0, 2.0)}, max_output_tokens=100)
    bound = tariff.worst(Request(expertise="é" * 10, message="x" * 52, n_responses=3))
    assert bound.tokens == 3 * (20 + 52 + 128) + 3 * 100
    assert bound.dollars == pytest.approx((600 * 1.0 + 300 * 2.0) / 1e6)


def test_an_answer_of_a_mix_is_priced_as_the_model_that_gave_it() -> None:
    tariff = Tariff(asked="mix", prices={"a": flat(1, 1), "b": flat(3, 3), "c": None})
    usage = Usage(prompt_tokens=1_000_000)
    priced = {m: tariff.priced(Answer(texts=(), usage=usage, model=m)).usage.dollars for m in "abc"}
    assert priced == {"a": 1.0, "b": 3.0, "c": None}
    own = Answer(texts=(), usage=Usage(prompt_tokens=5, dollars=9.0), model="a")
    assert tariff.priced(own) is own
    assert tariff.worst(Request(expertise="", message="")).dollars == pytest.approx(3 * 128 / 1e6)


def test_a_model_object_costs_what_is_set_for_it() -> None:
    scripted = ScriptedModel([""])
    common = {"given": scripted, "base_url": None, "environment": {}}
    assert tariff_of("custom:x", settings=NO_SETTINGS, **common).unknown == ["scripted"]
    settings = ModelSettings(input_price=1.0, output_price=1.0)
    assert tariff_of("custom:x", settings=settings, **common).prices == {"scripted": flat(1, 1)}


def config(folder: Path, **changes: object) -> RunConfig:
    chosen: dict[str, object] = {
        "command": "improve",
        "tasks": (str(folder),),
        "improvers": (("greedy", load_improver("greedy").source),),
        "model": "openai/tiny",
        "slots": 1,
    }
    return RunConfig(**{**chosen, **changes})  # type: ignore[arg-type]


def answers(store: str) -> list[Answered]:
    with SQLiteStore.open(store, writable=False) as opened:
        events = [event for _, _, event in opened.events(opened.resolve("latest"))]
    return [event for event in events if isinstance(event, Answered)]


def test_dollars_without_a_price_are_refused_before_anything_is_asked(
    toy_folder: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "s.db")
    with LoopbackServer(lambda received, index: PROGRAM) as server:
        asking = config(toy_folder, base_url=server.url, limits=RunLimits(dollars=1.0))
        with pytest.raises(UsageError, match=r"price of openai/tiny is not known.*--price IN,OUT"):
            start(asking, store, environment={})
        assert not server.log
    with SQLiteStore.open(store, writable=False) as opened:
        assert opened.runs() == []


def test_a_run_stops_before_its_dollars_are_exceeded_and_resuming_does_not_lift_them(
    toy_folder: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "s.db")
    settings = ModelSettings(input_price=10.0, output_price=1000.0)
    with LoopbackServer(lambda received, index: PROGRAM + " and so on" * 1000) as server:
        asking = config(
            toy_folder,
            base_url=server.url,
            model_settings=settings,
            limits=RunLimits(dollars=30.0),
        )
        run = start(asking, store, environment={})
        asked = len(server.log)
        assert {received.body["max_tokens"] for received in server.log} == {DEFAULT_OUTPUT_TOKENS}
        again = resume("latest", store, environment={})
        assert len(server.log) == asked
    assert run.status == again.status == "budget"
    assert "$30" in run.reason
    assert 0 < run.spent["dollars"] <= 30.0
    assert again.spent["dollars"] == pytest.approx(run.spent["dollars"])
    recorded = answers(store)
    assert sum(e.dollars for e in recorded) == pytest.approx(run.spent["dollars"])
    for event in recorded:
        assert event.dollars == pytest.approx(
            (event.prompt_tokens * 10 + event.completion_tokens * 1000) / 1e6
        )


def test_proposals_by_mutation_cost_nothing_and_need_no_limit(
    toy_folder: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "s.db")
    limits = RunLimits(dollars=0.01, tokens=1)
    run = start(config(toy_folder, model="mutation", limits=limits), store)
    assert run.status == "done"
    assert {event.dollars for event in answers(store)} == {0.0}


def test_the_default_limit_of_output_is_sent_only_where_spending_is_limited(
    toy_folder: Path, tmp_path: Path
) -> None:
    with LoopbackServer(lambda received, index: PROGRAM) as server:
        start(config(toy_folder, base_url=server.url), str(tmp_path / "s.db"), environment={})
        assert not any("max_tokens" in received.body for received in server.log)


def test_a_limit_that_comes_with_a_resume_bounds_the_answers_too(
    toy_folder: Path, tmp_path: Path
) -> None:
    store, stop = str(tmp_path / "s.db"), threading.Event()
    watch = Watch(on_event=lambda event: stop.set() if isinstance(event, Answered) else None)
    with LoopbackServer(lambda received, index: PROGRAM) as server:
        with pytest.raises(Interrupted):
            start(
                config(toy_folder, base_url=server.url),
                store, environment={}, stop=stop, watch=watch,
            )  # fmt: skip
        asked = len(server.log)
        resume("latest", store, environment={}, limits=RunLimits(tokens=500_000))
        sent = [received.body.get("max_tokens") for received in server.log]
    assert sent[:asked] == [None] * asked
    assert set(sent[asked:]) == {DEFAULT_OUTPUT_TOKENS}


def test_a_call_that_is_sent_again_sets_more_aside(toy_folder: Path, tmp_path: Path) -> None:
    """One call fits and its repetition does not: the run ends, and the first one counts."""
    from selftaught.testing import Fault

    store = str(tmp_path / "s.db")
    settings = ModelSettings(max_output_tokens=1000)
    with LoopbackServer(faults=lambda number, body: Fault.EMPTY_BODY) as server:
        asking = config(
            toy_folder,
            base_url=server.url,
            model_settings=settings,
            limits=RunLimits(tokens=20_000),
        )
        run = start(asking, store, environment={})
        asked = len(server.log)
        assert asked >= 1
        assert run.status == "budget"
        assert "tokens are spent" in run.reason
        assert 20_000 >= run.spent["tokens"] > 0
        resume("latest", store, environment={})
        assert len(server.log) == asked


def test_a_refused_request_costs_nothing_and_a_useless_answer_what_it_may(
    toy_folder: Path, tmp_path: Path
) -> None:
    from selftaught.testing import Fault, HttpError

    for fault, is_lost in ((HttpError(status=429), False), (Fault.EMPTY_BODY, True)):
        store = str(tmp_path / f"{is_lost}.db")
        with LoopbackServer(
            lambda received, index: PROGRAM,
            faults=lambda number, body, fault=fault: fault if number == 1 else None,
        ) as server:
            asking = config(
                toy_folder,
                base_url=server.url,
                model_settings=ModelSettings(max_output_tokens=100),
                limits=RunLimits(tokens=500_000),
            )
            run = start(asking, store, environment={})
        assert run.status == "done"
        recorded = answers(store)
        assert (recorded[0].lost_tokens > 100) is is_lost
        assert all(event.lost_tokens == 0 for event in recorded[1:])
        assert run.spent["tokens"] == sum(
            e.prompt_tokens + e.completion_tokens + e.lost_tokens for e in recorded
        )
