// NumPy arrays, and whatever else has `__array_interface__` (version 3), on the CPU.
#include <string>

#include "runtime/python_values.h"
#include "runtime/tensor_source.h"
#include "runtime/text.h"

namespace vllm {
namespace {

PyObject* item(const Ref& interface, const char* key) {  // borrowed
  PyObject* value = PyDict_GetItemString(interface.get(), key);
  if (value == nullptr) {
    throw Error(ErrorKind::type, concat("has an __array_interface__ without '", key, "'"));
  }
  return value;
}

// ml_dtypes' bfloat16 is an opaque two-byte type to NumPy, identified by its name.
bool is_bfloat16(PyObject* object) {
  const Ref dtype(PyObject_GetAttrString(object, "dtype"));
  const Ref name(dtype ? PyObject_GetAttrString(dtype.get(), "name") : nullptr);
  if (!name) {
    PyErr_Clear();
    return false;
  }
  return to_string(name.get()) == "bfloat16";
}

struct ElementType {
  DType dtype;
  int64_t size;  // bytes
};

// typestr: byte order, kind, bytes, as in "<f4".
ElementType element_type(PyObject* object, const std::string& typestr) {
  if (!typestr.empty() && typestr[0] == '>') {
    throw Error(ErrorKind::type, concat("has big-endian elements ('", typestr,
                                        "'); it takes the byte order of this machine"));
  }
  const std::string kind = typestr.empty() ? "" : typestr.substr(1);
  if (kind == "f4") return {DType::float32, 4};
  if (kind == "f2") return {DType::float16, 2};
  if (kind == "i4") return {DType::int32, 4};
  if (kind == "i8") return {DType::int64, 8};
  if (kind == "V2" && is_bfloat16(object)) return {DType::bfloat16, 2};
  return {DType::other, 1};
}

void read_strides(PyObject* strides, int64_t element_size, Tensor& tensor) {
  if (strides == nullptr || strides == py_none) {  // C-contiguous
    int64_t stride = 1;
    for (int dim = tensor.ndim - 1; dim >= 0; --dim) {
      tensor.strides[dim] = stride;
      stride *= tensor.shape[dim];
    }
    return;
  }
  if (to_dims(strides, tensor.strides) != tensor.ndim) {
    throw Error(ErrorKind::value, "has a different number of strides and dimensions");
  }
  for (int dim = 0; dim < tensor.ndim; ++dim) {
    if (tensor.strides[dim] % element_size != 0) {
      throw Error(ErrorKind::value,
                  concat("has a stride of ", tensor.strides[dim],
                         " bytes; it takes multiples of its element size ", element_size));
    }
    tensor.strides[dim] /= element_size;
  }
}

class ArrayInterface final : public TensorSource {
 public:
  void read(PyObject* object, Tensor& tensor) const override {
    const Ref interface = checked(PyObject_GetAttrString(object, "__array_interface__"));
    PyObject* const data = item(interface, "data");  // (address, read-only)
    if (PyTuple_Size(data) != 2) {
      PyErr_Clear();
      throw Error(ErrorKind::type, "has an __array_interface__ whose data is no address");
    }
    tensor.data = to_pointer(PyTuple_GetItem(data, 0));
    tensor.read_only = to_bool(PyTuple_GetItem(data, 1));
    tensor.device_type = DeviceType::cpu;
    tensor.device_index = 0;
    const ElementType element = element_type(object, to_string(item(interface, "typestr")));
    tensor.dtype = element.dtype;
    tensor.ndim = to_dims(item(interface, "shape"), tensor.shape);
    read_strides(PyDict_GetItemString(interface.get(), "strides"), element.size, tensor);
  }

  void* current_stream(int) const override { return nullptr; }  // never asked: the CPU has none
};

}  // namespace

TensorSource* array_interface_source(PyObject* type) {
  const Ref interface(PyObject_GetAttrString(type, "__array_interface__"));
  if (!interface) {
    PyErr_Clear();
    return nullptr;
  }
  return new ArrayInterface;
}

}  // namespace vllm
