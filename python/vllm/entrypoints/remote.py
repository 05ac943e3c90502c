"""``--url``: commands use a server instead of loading a model."""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Dict, Iterator, Mapping, Optional

DEFAULT_URL = "http://127.0.0.1:8000/v1"


def add_server_options(parser: argparse.ArgumentParser, *, url: Optional[str]) -> None:
    """url: the default of --url; None: without --url no server is used."""
    group = parser.add_argument_group("server")
    group.add_argument("--url", default=url, help="use a server, such as http://127.0.0.1:8000/v1")
    group.add_argument(
        "--model-name", metavar="NAME", help="the model; by default the first that the server lists"
    )
    group.add_argument("--api-key", metavar="KEY", help="($OPENAI_API_KEY)")


class Server:
    """A client of OpenAI's API. Every method raises ValueError with the server's error message."""

    def __init__(self, url: str, *, model: Optional[str] = None, key: Optional[str] = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"--url must begin with http:// or https://, got {url!r}")
        self._url = url.rstrip("/")
        self._key = key or os.environ.get("OPENAI_API_KEY")
        self.model = model or self._first_model()

    @classmethod
    def of(cls, args: argparse.Namespace) -> Server:
        """The server that the options select."""
        return cls(args.url, model=args.model_name, key=args.api_key)

    def chat(self, messages: Any, fields: Mapping[str, Any]) -> Iterator[str]:
        """Yields the answer to a conversation as it is generated."""
        for choice in self._choices("/chat/completions", {"messages": messages, **fields}):
            yield choice["delta"].get("content") or ""

    def complete(self, prompt: str, fields: Mapping[str, Any]) -> Iterator[str]:
        """Yields the continuation of a text as it is generated."""
        for choice in self._choices("/completions", {"prompt": prompt, **fields}):
            yield choice["text"]

    def _first_model(self) -> str:
        with self._open("/models") as answer:
            return str(json.load(answer)["data"][0]["id"])

    def _choices(self, path: str, fields: Mapping[str, Any]) -> Iterator[Dict[str, Any]]:
        body = {"model": self.model, "stream": True, **fields}
        # Closing the iterator closes the connection, which cancels the request.
        with self._open(path, json.dumps(body).encode()) as answer:
            for data in self._events(answer):
                event = json.loads(data)
                if "error" in event:
                    raise ValueError(event["error"]["message"])
                yield from event["choices"]

    def _events(self, answer: Any) -> Iterator[str]:
        """The data of each event of a stream. Raises ValueError if it ends before its last one."""
        broken = f"{self._url} ended the connection before the end of its answer"
        try:
            for line in answer:
                data = line.decode().strip()
                if data == "data: [DONE]":
                    return
                if data.startswith("data: "):
                    yield data[len("data: ") :]
        except (OSError, HTTPException) as error:
            raise ValueError(f"{broken}: {error}") from error
        raise ValueError(broken)

    def _open(self, path: str, body: Optional[bytes] = None) -> Any:
        request = urllib.request.Request(self._url + path, body)
        request.add_header("Content-Type", "application/json")
        if self._key:
            request.add_header("Authorization", f"Bearer {self._key}")
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            raise ValueError(_message(error)) from error
        except (OSError, HTTPException) as error:  # also one that says why another was raised
            reason = getattr(error, "reason", error)
            raise ValueError(f"{self._url} cannot be reached: {reason}") from error


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode("utf-8", "replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.url} answered {error.code}: {text[:500]}"
