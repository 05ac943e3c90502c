"""/tokenize and /detokenize: the model's tokenizer, by itself."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vllm.entrypoints.openai import prompts
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.json_body import JsonRoute
from vllm.entrypoints.openai.protocol.tokens import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
)
from vllm.entrypoints.openai.routes.common import as_json, responses, served_by
from vllm.entrypoints.openai.served import Served, in_thread

router = APIRouter(route_class=JsonRoute)


@router.post("/tokenize", responses=responses(TokenizeAnswer))
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Tokens of a text, or of the prompt rendered from a conversation."""
    served = served_by(request)
    served.name(body.model)
    return as_json(await in_thread(lambda: _tokenize(served, body)))


def _tokenize(served: Served, body: TokenizeRequest) -> TokenizeAnswer:
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "give either prompt or messages", param="prompt")
    if body.messages is not None:
        ids = prompts.of_chat(served, body.messages, body, check=False).token_ids
    else:
        special = body.add_special_tokens is not False
        try:
            ids = served.tokenizer.encode(str(body.prompt), add_special_tokens=special)
        except ValueError as error:
            raise ApiError(400, f"prompt: {error}", param="prompt") from error
    answer = TokenizeAnswer(count=len(ids), max_model_len=served.max_model_len, tokens=ids)
    if body.return_token_strs:
        answer.token_strs = [served.tokenizer.token_text(token) for token in ids]
    return answer


@router.post("/detokenize", responses=responses(DetokenizeAnswer))
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """The text of tokens."""
    served = served_by(request)
    served.name(body.model)
    vocab_size = served.engine.model_config.vocab_size
    for place, token in enumerate(body.tokens):
        if not 0 <= token < vocab_size:
            raise ApiError(
                400, f"tokens[{place}] must be in [0, {vocab_size}), got {token}", param="tokens"
            )
    tokenizer = served.tokenizer
    text = await in_thread(lambda: tokenizer.decode(body.tokens, skip_special_tokens=False))
    return as_json(DetokenizeAnswer(prompt=text))
