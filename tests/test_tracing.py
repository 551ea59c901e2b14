"""Spans of a run: where they stand, what they hold, and that there are none unless asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from selftaught.budget import Budget
from selftaught.errors import ModelRefused
from selftaught.improver import load_improver
from selftaught.language_model import Answer, ModelSettings, Usage
from selftaught.models import tracing
from selftaught.models.tracing import Tracing, tracing_of
from selftaught.mutation.proposer import MutationProposer
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start


class Paid:
    name = "openai/paid"
    is_language_model = True
    error: Exception | None = None

    def __init__(self) -> None:
        self._proposer = MutationProposer()

    def respond(self, request, *, seed, occurrence, key) -> Answer:
        if self.error is not None:
            raise self.error
        answer = self._proposer.respond(request, seed=seed, occurrence=occurrence, key=key)
        return Answer(
            texts=answer.texts,
            usage=Usage(
                prompt_tokens=100, completion_tokens=50, cached_tokens=20, reasoning_tokens=10
            ),
        )


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(
        "selftaught.runs.execution.tracing_of", lambda environment: Tracing(provider)
    )
    return made


def run_of(folder: Path, store: Path, model: Paid) -> None:
    budget = Budget(calls=1, responses=2, utility_calls=2)
    start(
        RunConfig(
            command="run",
            tasks=(str(folder),),
            improvers=(("seed", load_improver("seed").source),),
            rounds=1,
            repeats=1,
            sealed_repeats=1,
            budget=budget,
            meta_budget=budget,
            model="custom:paid",
            model_settings=ModelSettings(input_price=1.0, output_price=2.0),
            slots=1,
        ),
        str(store),
        model=model,
    )


def test_calls_stand_in_jobs_jobs_in_rounds_and_rounds_in_the_run(
    toy_folder: Path, tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    run_of(toy_folder, tmp_path / "s.db", Paid())
    spans = exporter.get_finished_spans()
    by_id = {span.context.span_id: span for span in spans}

    def path(span) -> str:
        above = by_id[span.parent.span_id] if span.parent else None
        return f"{path(above)} > {span.name}" if above else span.name

    (run,) = [span for span in spans if span.parent is None]
    paths = {path(span).replace(run.name, "run", 1) for span in spans}
    assert {
        "run",
        "run > round 0",
        "run > round 1",
        "run > round 0 > improve toy > chat paid",
        "run > round 1 > improve meta-utility > chat paid",
    } <= paths
    # Candidates of the round are measured while its own job waits for them.
    assert "run > round 1 > improve meta-utility > improve toy > chat paid" in paths
    assert run.attributes[tracing.STATUS] == "done"
    assert run.instrumentation_scope.schema_url == tracing.SCHEMA_URL


def test_a_call_has_the_attributes_of_the_conventions_and_no_text(
    toy_folder: Path, tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    run_of(toy_folder, tmp_path / "s.db", Paid())
    spans = exporter.get_finished_spans()
    call = next(span for span in spans if span.name == "chat paid")
    assert call.kind is SpanKind.CLIENT
    attributes = dict(call.attributes)
    job = attributes.pop("selftaught.job")
    assert job.startswith("validation/")
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "paid",
        "gen_ai.response.model": "openai/paid",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 10,
        "selftaught.attempts": 1,
        "selftaught.dollars": pytest.approx(200 / 1e6),
    }
    told = "".join(span.to_json() for span in spans)
    assert "def algorithm" not in told
    assert "You are an expert" not in told


def test_a_failure_is_named_and_its_message_kept_back(
    toy_folder: Path, tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    model = Paid()
    model.error = ModelRefused("the prompt 'secret' is refused")
    with pytest.raises(ModelRefused):
        run_of(toy_folder, tmp_path / "s.db", model)
    spans = exporter.get_finished_spans()
    failed = {span.name.split()[0] for span in spans if span.status.status_code is StatusCode.ERROR}
    assert failed == {"run", "improve", "chat"}
    assert all("secret" not in span.to_json() for span in spans)
    assert any(span.name == "round 0" for span in spans)


def test_nothing_is_made_without_an_endpoint_or_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing_of({})._provider is None
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    found = tracing_of(endpoint)
    assert found._provider is not None
    found._provider.shutdown()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert tracing_of(endpoint)._provider is None


def test_a_run_without_an_endpoint_imports_no_opentelemetry() -> None:
    program = (
        "import sys\nfrom selftaught.models.tracing import Tracing, tracing_of\n"
        "made = tracing_of({})\nwith made.run('r', 'run'):\n    made.round_begins(0)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
