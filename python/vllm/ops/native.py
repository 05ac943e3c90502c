"""The compiled extension `vllm._C`, or a placeholder in a build without it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
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
        spec = importlib.util.find_spec("vllm._C")
        if spec is not None and spec.origin is not None:
            _require_whole(spec.origin)
        return importlib.import_module("vllm._C")
    except (ImportError, UnicodeEncodeError) as error:
        # UnicodeEncodeError: some Pythons (seen: 3.8 and 3.13) load no extension from a folder
        # whose name is not UTF-8.
        return Missing(error)


def _require_whole(path: str) -> None:
    """Raises ImportError for a file that was cut off, as by a full disk: the system's loader maps
    what is missing, and ends the interpreter with SIGBUS.

    Linkers write the section headers of an ELF file last. Whatever else is wrong with a file, the
    loader says.
    """
    with open(path, "rb") as file:  # noqa: PTH123 (importing pathlib takes longer)
        header = file.read(64)
        size = os.fstat(file.fileno()).st_size
    if header[:6] != b"\x7fELF\x02\x01" or len(header) < 64:  # 64 bits, little-endian
        return
    (headers,) = struct.unpack_from("<Q", header, 40)
    header_size, num_headers = struct.unpack_from("<HH", header, 58)
    whole = headers + header_size * num_headers
    if size < whole:
        raise ImportError(
            f"{path} was cut off: it has {size:,} of at least {whole:,} bytes. Install vllm again "
            f"(pip install --force-reinstall --no-deps)"
        )


_C = _load()
