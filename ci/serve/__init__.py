"""The bucket over HTTP: `Application` answers, `running` serves it while a block runs."""

from ci.serve.app import Application
from ci.serve.server import ServeError, base_url, listen, running, serve

__all__ = ["Application", "ServeError", "base_url", "listen", "running", "serve"]
