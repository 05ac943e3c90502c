"""Which environment variables are passed to child processes, and in which form."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

# Variables that hold one path. Child processes run in other folders, so paths are made absolute.
PATHS = (
    "CCACHE_CONFIGPATH",
    "CCACHE_DIR",
    "CUDA_HOME",
    "CURL_CA_BUNDLE",
    "HOME",
    "NETRC",
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "UV_CACHE_DIR",
    "UV_CONFIG_FILE",
    "ZIG_GLOBAL_CACHE_DIR",
)
# The PIP_ and UV_ variables for reaching packages. Others would change what is installed or where:
# PIP_USER, PIP_TARGET, PIP_NO_DEPS, UV_SYSTEM_PYTHON, UV_OVERRIDE, …
REACHING = (
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_KEYRING_PROVIDER",
    "PIP_NO_CACHE_DIR",
    "PIP_NO_INDEX",
    "PIP_RETRIES",
    "PIP_TIMEOUT",
    "PIP_TRUSTED_HOST",
    "UV_ALLOW_INSECURE_HOST",
    "UV_CACHE_DIR",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_NATIVE_TLS",
    "UV_NO_CACHE",
    "UV_NO_INDEX",
    "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
)
# Variables that make one Python import the packages of another.
FOREIGN = ("CONDA_", "PIP_", "PYTHON", "UV_", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
LOOPBACK = "127.0.0.1,localhost"


def with_absolute_paths(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """`environ` with relative paths resolved against `folder`."""
    changed = dict(environ)
    for name in PATHS:
        if environ.get(name):
            changed[name] = str(folder / environ[name])
    if environ.get("PATH"):
        entries = environ["PATH"].split(os.pathsep)
        changed["PATH"] = os.pathsep.join(str(folder / entry) for entry in entries)
    if environ.get("PIP_FIND_LINKS"):  # paths and URLs
        links = environ["PIP_FIND_LINKS"].split()
        changed["PIP_FIND_LINKS"] = " ".join(
            link if re.match(r"\w+:", link) else str(folder / link) for link in links
        )
    return changed


def for_installing(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for pip and uv of another Python: how to reach packages, nothing else.

    127.0.0.1 is never reached through a proxy.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(FOREIGN) or name in REACHING
    }
    # pip applies no_proxy to a proxy from these variables, but not to one from its own settings.
    for name in ("http_proxy", "https_proxy"):
        if "PIP_PROXY" in environ and name not in kept and name.upper() not in kept:
            kept[name] = environ["PIP_PROXY"]
    for name in ("no_proxy", "NO_PROXY"):
        kept[name] = ",".join(filter(None, [kept.get(name), LOOPBACK]))
    return {**kept, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
