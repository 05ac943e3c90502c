// torch tensors by their attributes, for every torch that has no DLPack exchange table: about half
// a microsecond a tensor, where `__dlpack__()` costs 3.6.
#include "runtime/python_values.h"
#include "runtime/tensor_source.h"

namespace vllm {
namespace {

// For the life of the process: attribute lookup compares interned names by address.
PyObject* interned(const char* text) { return checked(PyUnicode_InternFromString(text)).release(); }

// Borrowed; null when torch is not imported. None in sys.modules blocks an import.
PyObject* torch_module() {
  PyObject* torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
  return torch != py_none ? torch : nullptr;
}

class TorchAttributes final : public TensorSource {
 public:
  explicit TorchAttributes(PyObject* torch) {
    for (int i = 0; i < kDTypes; ++i) {
      // torch's dtypes are singletons, so they are compared by address.
      dtypes_[i] =
          checked(PyObject_GetAttrString(torch, dtype_name(static_cast<DType>(i)))).release();
    }
  }

  void read(PyObject* object, Tensor& tensor) const override {
    tensor.data = to_pointer(call(object, data_ptr_).get());
    tensor.dtype = dtype_of(object);
    tensor.read_only = false;
    tensor.device_index = 0;
    if (to_bool(attribute(object, is_cpu_).get())) {
      tensor.device_type = DeviceType::cpu;
    } else if (to_bool(attribute(object, is_cuda_).get())) {
      tensor.device_type = DeviceType::cuda;
      tensor.device_index = static_cast<int>(to_integer(call(object, get_device_).get()));
    } else {
      tensor.device_type = DeviceType::other;
    }
    tensor.ndim = to_dims(attribute(object, shape_).get(), tensor.shape);
    if (to_bool(call(object, is_contiguous_).get())) {  // cheaper than a tuple of strides
      int64_t stride = 1;
      for (int dim = tensor.ndim - 1; dim >= 0; --dim) {
        tensor.strides[dim] = stride;
        stride *= tensor.shape[dim];
      }
    } else {
      to_dims(call(object, stride_).get(), tensor.strides);
    }
  }

  void* current_stream(int device) const override {
    // torch.cuda.current_stream() makes two objects on its way to this number.
    static PyObject* const get_stream = [] {
      const Ref internals = checked(PyObject_GetAttrString(torch_module(), "_C"));
      return checked(PyObject_GetAttrString(internals.get(), "_cuda_getCurrentRawStream"))
          .release();
    }();
    const Ref index = checked(PyLong_FromLongLong(device));
    return to_pointer(
        checked(PyObject_CallFunctionObjArgs(get_stream, index.get(), nullptr)).get());
  }

 private:
  static constexpr int kDTypes = static_cast<int>(DType::other);

  static Ref attribute(PyObject* object, PyObject* name) {
    return checked(PyObject_GetAttr(object, name));
  }
  static Ref call(PyObject* object, PyObject* method) {
    return checked(PyObject_CallMethodObjArgs(object, method, nullptr));
  }
  DType dtype_of(PyObject* object) const {
    const Ref dtype = attribute(object, dtype_);
    int i = 0;
    while (i < kDTypes && dtypes_[i] != dtype.get()) ++i;
    return static_cast<DType>(i);
  }

  PyObject* const data_ptr_ = interned("data_ptr");
  PyObject* const dtype_ = interned("dtype");
  PyObject* const is_cpu_ = interned("is_cpu");
  PyObject* const is_cuda_ = interned("is_cuda");
  PyObject* const get_device_ = interned("get_device");
  PyObject* const shape_ = interned("shape");
  PyObject* const is_contiguous_ = interned("is_contiguous");
  PyObject* const stride_ = interned("stride");
  PyObject* dtypes_[kDTypes];
};

}  // namespace

TensorSource* torch_attribute_source(PyObject* type) {
  PyObject* torch = torch_module();
  if (torch == nullptr) return nullptr;
  const Ref base = checked(PyObject_GetAttrString(torch, "Tensor"));
  const int is_tensor = PyObject_IsSubclass(type, base.get());
  if (is_tensor < 0) throw PythonErrorSet{};
  return is_tensor != 0 ? new TorchAttributes(torch) : nullptr;
}

}  // namespace vllm
