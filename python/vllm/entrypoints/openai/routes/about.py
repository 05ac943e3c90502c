"""Information about the server: models, health, version, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vllm.entrypoints.openai import metrics
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.protocol.models import ModelCard, ModelList, VersionAnswer
from vllm.entrypoints.openai.routes.common import as_json, responses, served_by
from vllm.entrypoints.openai.served import Served
from vllm.errors import kind_of
from vllm.version import __version__

router = APIRouter()


@router.get("/v1/models", responses=responses(ModelList))
async def list_models(request: Request) -> Response:
    """The names under which the model is served."""
    served = served_by(request)
    cards = [_card(served, name) for name in served.options.names]
    return as_json(ModelList(object="list", data=cards))


@router.get("/v1/models/{model:path}", responses=responses(ModelCard))
async def retrieve_model(model: str, request: Request) -> Response:
    """One name of the model."""
    served = served_by(request)
    return as_json(_card(served, served.name(model)))


@router.get("/health", response_class=Response, responses={503: {"description": "it cannot"}})
async def health(request: Request) -> Response:
    """200 while the engine can take requests."""
    error = served_by(request).engine.dead_error
    if error is not None:
        raise ApiError(503, f"the engine has died ({kind_of(error)})")
    return Response()


@router.get("/version", responses=responses(VersionAnswer))
async def version() -> Response:
    """The version of vllm."""
    return as_json(VersionAnswer(version=__version__))


@router.get("/metrics", response_class=Response)
async def show_metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(served_by(request).metrics.text(), media_type=metrics.CONTENT_TYPE)


def _card(served: Served, name: str) -> ModelCard:
    return ModelCard(
        id=name,
        object="model",
        created=served.fronts.created,
        owned_by="vllm",
        root=served.engine.args.model,
        max_model_len=served.max_model_len,
    )
