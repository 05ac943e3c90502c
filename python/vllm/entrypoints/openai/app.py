"""The ASGI application: routes and middleware."""

from __future__ import annotations

from typing import Optional

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.cors import CORSMiddleware

from vllm.engine.async_engine import AsyncEngine
from vllm.entrypoints.anthropic import messages
from vllm.entrypoints.openai import errors
from vllm.entrypoints.openai.auth import RequireApiKey
from vllm.entrypoints.openai.front_group import FrontGroup
from vllm.entrypoints.openai.head import AnswerHead
from vllm.entrypoints.openai.limits import LimitBody
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.paths import AtRootPath
from vllm.entrypoints.openai.request_ids import EchoRequestId
from vllm.entrypoints.openai.responses import Responses
from vllm.entrypoints.openai.routes import (
    about,
    chat,
    completions,
    page,
    responses,
    tokens,
)
from vllm.entrypoints.openai.served import Served
from vllm.entrypoints.openai.streaming import ClientLeft
from vllm.entrypoints.openai.tracing import ContinueTrace
from vllm.version import __version__


def build_app(
    engine: AsyncEngine, options: ServerOptions, fronts: Optional[FrontGroup] = None
) -> FastAPI:
    """Creates the ASGI application for an engine; the caller shuts the engine down.

    fronts: the processes that serve, of which this is one; None if it is the only one.
    """
    app = FastAPI(
        title="vllm",
        description="OpenAI's API, and Anthropic's.",
        version=__version__,
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
    )
    fronts = fronts or FrontGroup()
    app.state.served = Served(engine, options, fronts)
    app.state.responses = Responses(options, fronts)
    # The most frequent first: a request is compared with one route after another.
    for module in (chat, completions, responses, messages, tokens, about, page):
        app.include_router(module.router)
    errors.install(app)
    app.add_exception_handler(ClientLeft, _nobody_reads)
    # Middleware added last sees a request first.
    app.add_middleware(AnswerHead)
    app.add_middleware(LimitBody, max_bytes=options.max_request_bytes)
    if options.api_keys:
        app.add_middleware(RequireApiKey, keys=options.api_keys)
    if options.otlp_traces_endpoint:
        app.add_middleware(ContinueTrace)
    if options.enable_request_id_headers:
        app.add_middleware(EchoRequestId)
    if options.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.allowed_origins,
            allow_methods=options.allowed_methods,
            allow_headers=options.allowed_headers,
            allow_credentials=options.allow_credentials,
        )
    if options.root_path:
        app.add_middleware(AtRootPath, root_path=options.root_path)
    return app


def _nobody_reads(request: Request, error: Exception) -> Response:
    return Response(status_code=499)
