"""A bucket over HTTP: `Application` answers requests, `running` serves one in a with block."""

from ci.serve.app import Application
from ci.serve.connection import ConnectionLimits
from ci.serve.server import ServeError, base_url, listen, running, serve

__all__ = [
    "Application",
    "ConnectionLimits",
    "ServeError",
    "base_url",
    "listen",
    "running",
    "serve",
]
