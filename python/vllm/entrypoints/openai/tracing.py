"""OpenTelemetry traces of requests, under vLLM's names: ``--otlp-traces-endpoint``.

OpenTelemetry is imported only if traces are enabled.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, Optional

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams


class Tracing:
    """Sends a span of each request to a collector, in batches from a separate thread.

    endpoint: the collector's URL, such as http://127.0.0.1:4318/v1/traces.
    OpenTelemetry's environment variables (OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_…) apply. If the
    collector is unreachable, that is logged, and requests are served as usual.
    """

    def __init__(self, endpoint: str, model: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME", "vllm")
        resource = Resource.create({"service.name": name})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("vllm")
        self._model = model

    @contextlib.contextmanager
    def span(self, params: SamplingParams) -> Iterator[RequestSpan]:
        """A request's span; its parent is the client's span if the headers name one."""
        from opentelemetry.trace import SpanKind, StatusCode

        asked = {
            "gen_ai.response.model": self._model,
            "gen_ai.request.max_tokens": params.max_tokens,
            "gen_ai.request.temperature": params.temperature,
            "gen_ai.request.top_p": params.top_p,
            "gen_ai.request.n": params.n,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        # Not made the current span: a stream's generator may be closed in another context.
        span = self._tracer.start_span("llm_request", kind=SpanKind.SERVER, attributes=given)
        watched = RequestSpan()
        try:
            yield watched
        except Exception as error:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.set_attributes(watched.attributes())
            span.end()

    def flush(self) -> None:
        """Sends pending spans. This also happens at the end of the process."""
        self._provider.force_flush()


class RequestSpan:
    """Collects attributes of a request's span from its outputs."""

    def __init__(self) -> None:
        self._last: Optional[RequestOutput] = None
        self._num_generated = 0

    def see(self, output: RequestOutput) -> None:
        """Called with each output; outputs of a stream are deltas."""
        self._last = output
        self._num_generated += output.num_tokens

    def attributes(self) -> Dict[str, Any]:
        """Attributes under vLLM's names; times are in seconds."""
        if self._last is None:
            return {}
        times = self._last.metrics
        found: Dict[str, Any] = {
            "gen_ai.usage.prompt_tokens": len(self._last.prompt_token_ids),
            "gen_ai.usage.completion_tokens": self._num_generated,
        }
        for name, moment in (
            ("gen_ai.latency.time_in_queue", times.first_scheduled_time),
            ("gen_ai.latency.time_to_first_token", times.first_token_time),
            ("gen_ai.latency.e2e", times.finished_time),
        ):
            if moment is not None:
                found[name] = moment - times.arrival_time
        return found


class ContinueTrace:
    """Middleware that continues the trace in the client's headers (W3C Trace Context)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry import context, propagate

        token = context.attach(propagate.extract(Headers(scope=scope)))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)
