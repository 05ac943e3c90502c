"""The bucket over HTTP: `Application` answers, `running` serves it while a block runs."""

from ci.serve.app import Application
from ci.serve.connection import Limits
from ci.serve.server import ServeError, base_url, listen, running, serve

__all__ = ["Application", "Limits", "ServeError", "base_url", "listen", "running", "serve"]
