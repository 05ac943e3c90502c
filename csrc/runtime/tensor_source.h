// From a Python object to a Tensor, without libtorch: each Python type is read by one source,
// looked up once per type.
#pragma once

#include <string>

#include "runtime/python_abi.h"
#include "runtime/tensor.h"

namespace vllm {

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // Fills every field but `name`, `object` and `source`. Throws Error or PythonErrorSet.
  virtual void read(PyObject* object, Tensor& tensor) const = 0;

  // The stream that the owner of the tensor works on now, on CUDA device `device`.
  virtual void* current_stream(int device) const = 0;
};

// The argument `name` of `op` as a tensor. It is valid while the caller holds `object`.
// Throws Error(type) for an object that is not a tensor, or cannot be described (sparse, meta).
Tensor read_tensor(const char* op, const char* name, PyObject* object);

// "float32", "torch.float64": for messages.
std::string dtype_name(const Tensor& tensor);
const char* dtype_name(DType dtype);

// With `only`, torch tensors are read by their attributes even if torch has a DLPack exchange
// table. For tests and measurements.
void use_torch_attributes(bool only);

// The sources; each returns null where `type` (or `object`) does not have what it reads.
TensorSource* dlpack_source(PyObject* type);
TensorSource* torch_attribute_source(PyObject* type);
TensorSource* array_interface_source(PyObject* type);

}  // namespace vllm
