"""The OpenAPI description matches the server's responses."""

from __future__ import annotations

import warnings

import hypothesis
import pytest

from tests.waiting import PATIENCE

with warnings.catch_warnings():  # what other people's modules deprecate in each other
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import CHECKS, load_all_checks

OPERATIONS = {
    "/detokenize": "POST",
    "/health": "GET",
    "/metrics": "GET",
    "/tokenize": "POST",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/v1/models": "GET",
    "/v1/models/{model}": "GET",
    "/v1/responses": "POST",
    "/v1/responses/{response_id}": "GET",
    "/v1/responses/{response_id}/cancel": "POST",
    "/version": "GET",
}


@pytest.fixture(scope="module")
def description(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


# The description cannot say what depends on the model: which token ids there are, how many tokens
# fit, what it is called. So not everything that it allows is accepted.
load_all_checks()
NOT_CHECKED = [check for check in CHECKS.get_all() if "positive_data" in check.__name__]
assert NOT_CHECKED
POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
CASES = [
    *((path, POSITIVE) for path in OPERATIONS),
    *(
        (path, NEGATIVE)
        for path, method in OPERATIONS.items()
        if method == "POST" and "/cancel" not in path
    ),
]


@pytest.mark.parametrize(("path", "mode"), CASES, ids=[f"{p} {m.value}" for p, m in CASES])
def test_answers_are_as_described(description, path, mode):
    operation = description[path][OPERATIONS[path]]

    @hypothesis.settings(
        max_examples=40,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def ask(case):
        if mode is POSITIVE and isinstance(case.body, dict):
            case.body["model"] = "tiny"
            if isinstance(case.body.get("n"), int):
                case.body["n"] = min(case.body["n"], 3)  # for the time that a test may take
        case.call_and_validate(excluded_checks=NOT_CHECKED, timeout=PATIENCE)

    ask()


def test_every_endpoint_is_described(server):
    described = server.http.get("/openapi.json").json()
    assert sorted(described["paths"]) == list(OPERATIONS)
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation["description"], path
            if path not in ("/health", "/metrics"):
                assert "ErrorAnswer" in str(operation["responses"]["4XX"])
            assert "422" not in operation["responses"]
