"""Renders chat templates in a process of its own, within limits of memory and processor time.

A template is a stranger's code. Jinja's sandbox keeps it from Python's objects, but not from
computing for ever or filling the memory, in a loop or in one call ('x' * 10**10): the kernel does.

Run as a program by `vllm.text.template_sandbox`, and imports nothing of vllm. Speaks JSON, one
object a line: first the module search path and the limits, then a template and its variables each
time, answered with the text or the error.
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

_MAX_TEMPLATES = 32  # compiled, that are kept


def main() -> None:
    setup = json.loads(sys.stdin.readline())
    sys.path[:] = setup["path"]
    import jinja2.sandbox  # noqa: F401  (before the limits, as they are for templates)

    _limit(resource.RLIMIT_AS, setup["memory"])
    for line in sys.stdin:
        answer = _answer(json.loads(line), setup["seconds"], setup["characters"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(request: Dict[str, Any], seconds: int, characters: int) -> Dict[str, str]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Past the limit the kernel ends this process; whoever waits for the answer knows what that is.
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
    except Exception as error:  # noqa: BLE001  (whatever such code makes of what it did not expect)
        return {"error": str(error) or type(error).__name__}
    return {"text": "".join(pieces)}


def _limit(what: int, amount: int) -> None:
    """Sets a limit, or leaves a lower one that somebody else has set."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(
        what, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard)
    )


@functools.lru_cache(maxsize=_MAX_TEMPLATES)
def _compile(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """What templates on the hub are written for: the environment that transformers gives them."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **kwargs: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **kwargs)

    class Generation(Extension):
        """{% generation %} marks what training counts; for a prompt it is its contents."""

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
