"""Debian's chromium, driven by selenium, without a window."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import Any, Iterator

from selenium import webdriver

# As root a sandbox is refused, and /dev/shm of a container is small.
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


def is_installed() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


@contextmanager
def browser(*more: str) -> Iterator[Any]:
    """A browser for the time of a with block. more: its options."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in (*_OPTIONS, *more):
        options.add_argument(option)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    started = webdriver.Chrome(options=options, service=service)
    try:
        yield started
    finally:
        started.quit()
