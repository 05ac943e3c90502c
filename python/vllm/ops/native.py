"""The compiled extension `vllm._C`, or a placeholder in a build without it."""

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
    """A placeholder that raises NativeCodeError when it is used. reason: why there is no code."""

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> NoReturn:
        if isinstance(self._reason, ModuleNotFoundError):
            raise NativeCodeError(
                f"vllm.{name} needs compiled code, and this build of vllm has none "
                "(VLLM_TARGET_DEVICE=empty, or a source tree that was not installed). "
                "Install a wheel (Linux on x86-64 or 64-bit Arm), or build with "
                "VLLM_TARGET_DEVICE=cpu or cuda"
            ) from self._reason
        raise NativeCodeError(
            f"vllm.{name} needs compiled code that cannot be loaded: {self._reason}"
        ) from self._reason


def _load() -> Union[ModuleType, Missing]:
    try:
        return importlib.import_module("vllm._C")
    except (ImportError, UnicodeEncodeError) as error:
        # UnicodeEncodeError: some Pythons (seen: 3.8 and 3.13) load no extension from a folder
        # whose name is not UTF-8.
        return Missing(error)


_C = _load()
