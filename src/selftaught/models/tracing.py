"""Spans of a run for OpenTelemetry: the run, its rounds, its jobs, its calls to the model.

Without an exporter in the environment, or without the extra `otel`, nothing is imported and
nothing is done. Prompts and answers are never in a span; the event store has them.

All names are here. Those of `gen_ai` follow the conventions at SCHEMA_URL, where none of them is
stable yet; the rest begin with `selftaught`.
"""

import importlib.util
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from selftaught.language_model import Answer, Request
from selftaught.pool import ImproveJob

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
NAME = "selftaught"
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
OPERATION = "gen_ai.operation.name"
CHAT = "chat"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
TEMPERATURE = "gen_ai.request.temperature"
CHOICES = "gen_ai.request.choice.count"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
ERROR_TYPE = "error.type"
RUN = "selftaught.run"
COMMAND = "selftaught.command"
STATUS = "selftaught.status"
ROUND = "selftaught.round"
ACCEPTED = "selftaught.accepted"
JOB = "selftaught.job"
IMPROVER = "selftaught.improver"
TARGET = "selftaught.target"
OUTCOME = "selftaught.outcome"
DOLLARS = "selftaught.dollars"
ATTEMPTS = "selftaught.attempts"
_ROUND_JOB = "round/"


class Tracing:
    """The spans of one run. Thread-safe.

    Args:
        provider: makes and exports spans; None for none.
    """

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._run: Span | None = None
        self._round: Span | None = None
        self._jobs: dict[str, Span] = {}
        self._lock = threading.Lock()

    @contextmanager
    def run(self, run: str, command: str) -> Iterator[None]:
        """The span of a whole run; what is left open in it is ended with it."""
        if self._provider is None:
            yield
            return
        span = self._run = self._begun(f"{command} {run}", None, {RUN: run, COMMAND: command})
        try:
            with _failure_noted(span):
                yield
        finally:
            if self._round is not None:
                self._round.end()
            span.end()
            self._run = self._round = None
            self._provider.shutdown()

    def status(self, status: str) -> None:
        """Say how the run ended."""
        if self._run is not None:
            self._run.set_attribute(STATUS, status)

    def round_begins(self, number: int) -> None:
        """Begin the span of a round."""
        if self._run is not None:
            self._round = self._begun(f"round {number}", self._run, {ROUND: number})

    def round_ended(self, accepted: bool) -> None:
        """End the span of the round."""
        span, self._round = self._round, None
        if span is not None:
            span.set_attribute(ACCEPTED, accepted)
            span.end()

    @contextmanager
    def job(self, job: ImproveJob) -> "Iterator[Span | None]":
        """The span of an improve job, below the round's own job where there is one."""
        if self._run is None:
            yield None
            return
        with self._lock:
            above = next((s for k, s in self._jobs.items() if k.startswith(_ROUND_JOB)), None)
            span = self._jobs[job.key] = self._begun(
                f"improve {job.target}",
                above or self._round or self._run,
                {JOB: job.key, IMPROVER: job.improver.hash, TARGET: job.target},
            )
        try:
            with _failure_noted(span):
                yield span
        finally:
            with self._lock:
                del self._jobs[job.key]
            span.end()

    @contextmanager
    def call(self, job: str, request: Request, model: str) -> "Iterator[Span | None]":
        """The span of a call to the model."""
        if self._run is None:
            yield None
            return
        from opentelemetry.trace import SpanKind

        provider, _, name = model.rpartition("/")
        with self._lock:
            above = self._jobs.get(job) or self._round or self._run
        span = self._begun(
            f"{CHAT} {name}",
            above,
            {
                OPERATION: CHAT,
                PROVIDER: provider or NAME,
                REQUEST_MODEL: name,
                TEMPERATURE: request.temperature,
                CHOICES: request.n_responses,
                JOB: job,
            },
            kind=SpanKind.CLIENT,
        )
        try:
            with _failure_noted(span):
                yield span
        finally:
            span.end()

    def _begun(
        self, name: str, above: "Span | None", attributes: dict[str, Any], **more: Any
    ) -> "Span":
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        assert self._provider is not None
        tracer = self._provider.get_tracer(NAME, schema_url=SCHEMA_URL)
        # Threads of a run share no context of their own: what is above is always said.
        context = Context() if above is None else set_span_in_context(above, Context())
        return tracer.start_span(name, context=context, attributes=attributes, **more)


def answered(span: "Span | None", answer: Answer, model: str) -> None:
    """Note on a span what came of a call; None is no span."""
    if span is None:
        return
    usage = answer.usage
    span.set_attributes(
        {
            RESPONSE_MODEL: answer.model or model,
            INPUT_TOKENS: usage.prompt_tokens,
            OUTPUT_TOKENS: usage.completion_tokens,
            CACHED_TOKENS: usage.cached_tokens,
            REASONING_TOKENS: usage.reasoning_tokens,
            ATTEMPTS: answer.attempts,
        }
    )
    if usage.dollars is not None:
        span.set_attribute(DOLLARS, usage.dollars)


def ended(span: "Span | None", outcome: str) -> None:
    """Note on a span the kind of outcome that a job had; None is no span."""
    if span is not None:
        span.set_attribute(OUTCOME, outcome)


def tracing_of(environment: Mapping[str, str]) -> Tracing:
    """Spans that go where the environment says, or none.

    Args:
        environment: OTEL_EXPORTER_OTLP_ENDPOINT names the collector; other variables of
            OpenTelemetry are read from the process itself.
    """
    is_wanted = any(environment.get(name) for name in ENDPOINT_VARIABLES)
    if not is_wanted or importlib.util.find_spec("opentelemetry") is None:
        return Tracing()
    if importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        return Tracing()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


@contextmanager
def _failure_noted(span: "Span") -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        from opentelemetry.trace import StatusCode

        # The kind of error and not its message, which may quote a prompt.
        span.set_attribute(ERROR_TYPE, type(error).__name__)
        span.set_status(StatusCode.ERROR)
        raise
