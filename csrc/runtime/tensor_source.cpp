#include "runtime/tensor_source.h"

#include <vector>

#include "runtime/python_values.h"
#include "runtime/text.h"

namespace vllm {
namespace {

struct KnownType {
  PyObject* type;  // owned, so that its address is not used again
  const TensorSource* source;
};

bool torch_attributes_only = false;

// Never destroyed: at exit the interpreter is gone before static destructors run.
std::vector<KnownType>& known_types() {
  static auto& types = *new std::vector<KnownType>;
  return types;
}

const TensorSource* find_source(PyObject* type) {
  // NumPy first: a DLPack table would not say that an array is read-only.
  if (TensorSource* source = array_interface_source(type)) return source;
  if (!torch_attributes_only) {
    if (TensorSource* source = dlpack_source(type)) return source;
  }
  return torch_attribute_source(type);
}

const TensorSource* source_of(PyObject* object) {
  PyObject* type = object->type;
  for (const KnownType& known : known_types()) {
    if (known.type == type) return known.source;
  }
  const TensorSource* source = find_source(type);
  if (source != nullptr) {
    Py_IncRef(type);
    known_types().push_back({type, source});
  }
  return source;
}

std::string attribute_text(PyObject* object, const char* attribute) {
  Ref value(PyObject_GetAttrString(object, attribute));
  if (value) return text_of(value.get());
  PyErr_Clear();
  return "?";
}

}  // namespace

Tensor read_tensor(const char* op, const char* name, PyObject* object) {
  const TensorSource* source = source_of(object);
  if (source == nullptr) {
    throw Error(ErrorKind::type, concat(op, ": argument '", name, "' is a ",
                                        attribute_text(object->type, "__name__"),
                                        "; it takes a torch.Tensor or, on the CPU, a NumPy array"));
  }
  Tensor tensor;
  tensor.name = name;
  tensor.object = object;
  tensor.source = source;
  try {
    source->read(object, tensor);
  } catch (const PythonErrorSet&) {
    if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw;  // such as KeyboardInterrupt
    throw Error(ErrorKind::type,
                concat(op, ": argument '", name,
                       "' cannot be read as a strided tensor: ", take_python_error()));
  } catch (const Error& error) {
    throw Error(error.kind(), concat(op, ": argument '", name, "' ", error.what()));
  }
  return tensor;
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::other:
      break;
  }
  return "another dtype";
}

std::string dtype_name(const Tensor& tensor) {
  if (tensor.dtype != DType::other) return dtype_name(tensor.dtype);
  return attribute_text(tensor.object, "dtype");
}

void use_torch_attributes(bool only) {
  torch_attributes_only = only;
  known_types().clear();  // keeps a few types and sources alive for good; nobody calls it in a loop
}

}  // namespace vllm
