"""OpenTelemetry spans, as received by a collector over HTTP."""

from __future__ import annotations

import contextlib
import http.server
import sys
import threading

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry is an extra")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.entrypoints.openai.support import let_model_write, running
from tests.event_lines import lines_of
from vllm.entrypoints.cli import main

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextlib.contextmanager
def collector():
    """Yields its address, and the (service, span) pairs that it has got."""
    got = []

    class Collect(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    got.extend((about["service.name"], span) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collect) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces", got
        finally:
            server.shutdown()
            thread.join()


def attributes(span):
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def test_each_request_is_a_span_of_its_clients_trace(chat_model, monkeypatch):
    body = {"prompt": "the cat", "max_tokens": 7, "ignore_eos": True, "temperature": 0.5, "n": 2}
    with collector() as (url, got), running(chat_model.folder, otlp_traces_endpoint=url) as server:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        for stream in (False, True):
            answer = server.http.post(
                "/v1/completions", json={**body, "stream": stream}, headers=headers
            )
            assert answer.status_code == 200
        let_model_write(monkeypatch, "and so on", holds=True)
        asked = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        with server.http.stream("POST", "/v1/chat/completions", json=asked) as left:
            next(lines_of(left))
        assert not any(server.settled().values())
        server.served.tracing.flush()
    assert {service for service, _ in got} == {"vllm"}
    whole, streamed, other = [span for _, span in got]
    for span in (whole, streamed):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        found = attributes(span)
        latencies = [
            found.pop(f"gen_ai.latency.{name}")
            for name in ("time_in_queue", "time_to_first_token", "e2e")
        ]
        assert 0 <= latencies[0] <= latencies[1] <= latencies[2]
        assert found == {
            "gen_ai.response.model": "tiny",
            "gen_ai.request.max_tokens": 7,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 1.0,
            "gen_ai.request.n": 2,
            "gen_ai.usage.prompt_tokens": 3,
            "gen_ai.usage.completion_tokens": 14,
        }
    assert other.trace_id.hex() != TRACE
    assert "the cat" not in str(got)


def test_a_collector_that_is_not_there_costs_no_request(chat_model):
    endpoint = "http://127.0.0.1:9/v1/traces"
    with running(chat_model.folder, otlp_traces_endpoint=endpoint) as server:
        assert server.post("/v1/completions", prompt="hi", max_tokens=1).status_code == 200


def test_a_python_without_opentelemetry_is_told(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert main(["serve", "./gone", "--otlp-traces-endpoint", "http://127.0.0.1:9"]) == 1
    assert "pip install 'vllm[otel]'" in capsys.readouterr().err
