"""Tensors of any type that has the DLPack C exchange table, here one made with ctypes."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from vllm import ops


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


ReadFunction = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))


class Table(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("older", ctypes.c_void_p),
        ("unused", ctypes.c_void_p * 3),
        ("read", ReadFunction),
        ("current_work_stream", ctypes.c_void_p),
    ]


@ReadFunction
def read(owner, out):
    array, tensor = owner.array, out.contents
    owner.shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    owner.strides = (ctypes.c_int64 * array.ndim)(*(s // array.itemsize for s in array.strides))
    tensor.data = array.ctypes.data - 64
    tensor.byte_offset = 64
    tensor.device_type, tensor.device_id = owner.device
    tensor.ndim = array.ndim
    tensor.code, tensor.bits, tensor.lanes = owner.dtype
    tensor.shape = owner.shape
    tensor.strides = None if array.flags.c_contiguous else owner.strides
    return 0


def exporter_type(table: Table, name: bytes = b"dlpack_exchange_api") -> type:
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    class Exporter:
        __dlpack_c_exchange_api__ = new_capsule(ctypes.addressof(table), name, None)
        keep = (table, name)

        def __init__(self, array, device=(1, 0), dtype=(2, 32, 1)):
            self.array, self.device, self.dtype = array, device, dtype

    return Exporter


def norm_of(tensor: object, shape: tuple = (3, 8)) -> np.ndarray:
    out = np.empty(shape, np.float32)
    ops.rms_norm(out, tensor, np.ones(shape[-1], np.float32), 0.0)
    return out


CURRENT = Table(1, 3, None, (None,) * 3, read, None)
NEWER = Table(2, 0, ctypes.addressof(CURRENT), (None,) * 3, ReadFunction(), None)
values = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)


@pytest.mark.parametrize("table", [CURRENT, NEWER], ids=["current", "newer, with an older one"])
@pytest.mark.parametrize("array", [values[:, :8].copy(), values[:, 4:12]], ids=["null", "strides"])
def test_the_table_is_used(table, array, normed):
    np.testing.assert_allclose(norm_of(exporter_type(table)(array)), normed(array), rtol=1e-6)


def test_pinned_memory_is_of_the_cpu(normed):
    pinned = exporter_type(CURRENT)(values, device=(3, 1))  # kDLCUDAHost
    np.testing.assert_allclose(norm_of(pinned, values.shape), normed(values), rtol=1e-6)


@pytest.mark.parametrize("dtype", [(2, 64, 1), (1, 32, 1), (2, 32, 2), (4, 32, 1)])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="takes float32, float16 or bfloat16"):
        norm_of(exporter_type(CURRENT)(values, dtype=dtype))


def test_other_devices_are_refused():
    with pytest.raises(ValueError, match="'input' is on another kind of device"):
        norm_of(exporter_type(CURRENT)(values, device=(7, 0)))  # kDLVulkan


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (Table(2, 0, None, (None,) * 3, read, None), b"dlpack_exchange_api"),
        (Table(1, 3, None, (None,) * 3, ReadFunction(), None), b"dlpack_exchange_api"),
        (CURRENT, b"something else"),
    ],
    ids=["too new", "without the function", "another capsule"],
)
def test_a_table_that_cannot_be_used_is_left_alone(table, name):
    with pytest.raises(TypeError, match="'input' is a Exporter; it takes"):
        norm_of(exporter_type(table, name)(values))
