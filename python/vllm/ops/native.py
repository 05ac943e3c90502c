"""The compiled part of vllm, or what stands in for it where a build has none."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, Union

from vllm.errors import NativeCodeError

if TYPE_CHECKING:
    import numpy as np
    import torch

    Tensor = Union[torch.Tensor, np.ndarray[Any, Any]]


class Missing:
    """Says why there is no compiled code, when something of it is first used."""

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> NoReturn:
        if isinstance(self._reason, ModuleNotFoundError):
            raise NativeCodeError(
                f"vllm.{name} needs compiled code, and this build of vllm has none "
                "(VLLM_TARGET_DEVICE=empty, or a source tree that was not installed). "
                "Install a wheel for Linux x86-64, or build with VLLM_TARGET_DEVICE=cpu or cuda"
            ) from self._reason
        raise NativeCodeError(
            f"vllm.{name} needs compiled code that cannot be loaded: {self._reason}"
        ) from self._reason


def _load() -> Union[ModuleType, Missing]:
    try:
        return importlib.import_module("vllm._C")
    except (ImportError, UnicodeEncodeError) as error:
        # The latter: some Pythons (3.8 and 3.13 are seen to) load no extension from a folder whose
        # name is not UTF-8.
        return Missing(error)


_C = _load()
