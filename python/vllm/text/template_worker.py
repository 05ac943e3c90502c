"""Renders chat templates in a separate process, with limits on memory and CPU time.

A template is untrusted code. Jinja's sandbox protects Python's objects, but does not stop endless
loops or huge allocations ('x' * 10**10); the operating system's resource limits do.

`vllm.text.template_sandbox` runs this file as a program; it imports nothing of vllm. Its protocol
is one JSON object per line: first the module search path and the limits, then requests with a
template and its variables, each answered with the text or an error.
"""

from __future__ import annotations

import datetime
import functools
import json
import resource
import sys
from typing import TYPE_CHECKING, Any, Dict, List, NoReturn

if TYPE_CHECKING:
    import jinja2

_MAX_TEMPLATES = 32  # compiled templates in the cache


def main() -> None:
    line = sys.stdin.readline()
    if not line:  # the process that started this one has ended
        return
    setup = json.loads(line)
    sys.path[:] = setup["path"]
    import jinja2.sandbox  # noqa: F401  (before the limits, which are meant for templates)

    _limit(resource.RLIMIT_AS, setup["memory"])
    for line in sys.stdin:
        answer = _answer(json.loads(line), setup["seconds"], setup["characters"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(request: Dict[str, Any], seconds: int, characters: int) -> Dict[str, str]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Beyond the limit the operating system kills this process with SIGXCPU, which the sandbox
    # reports.
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + 1)
    pieces: List[str] = []
    size = 0
    try:
        for piece in _compile(request["source"]).generate(request["variables"]):
            size += len(piece)
            if size > characters:
                return {"error": f"its text has more than {characters} characters"}
            pieces.append(piece)
    except MemoryError:
        return {"error": "it needs more memory than a template may have"}
    except Exception as error:  # noqa: BLE001  (a template may raise anything)
        return {"error": str(error) or type(error).__name__}
    return {"text": "".join(pieces)}


def _limit(what: int, amount: int) -> None:
    """Sets a resource limit, unless the hard limit is lower."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(
        what, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard)
    )


@functools.lru_cache(maxsize=_MAX_TEMPLATES)
def _compile(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """The environment in which transformers renders templates, which the hub's are written for."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **kwargs: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **kwargs)

    class Generation(Extension):
        """{% generation %} marks text for training; in a prompt it is just its contents."""

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: Parser) -> List[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    # Jinja's own tojson escapes for HTML.
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


if __name__ == "__main__":
    main()
