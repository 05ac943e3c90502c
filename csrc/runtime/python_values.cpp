#include "runtime/python_values.h"

#include "runtime/tensor.h"
#include "runtime/text.h"

namespace vllm {

int64_t to_integer(PyObject* object) {
  const long long value = PyLong_AsLongLong(object);
  if (value == -1 && PyErr_Occurred() != nullptr) throw PythonErrorSet{};
  return value;
}

int64_t to_index(PyObject* object) {
  if (object->type == &PyLong_Type) return to_integer(object);
  return to_integer(checked(PyNumber_Index(object)).get());
}

double to_number(PyObject* object) {
  const double value = PyFloat_AsDouble(object);
  if (value == -1.0 && PyErr_Occurred() != nullptr) throw PythonErrorSet{};
  return value;
}

bool to_bool(PyObject* object) {
  const int truth = PyObject_IsTrue(object);
  if (truth < 0) throw PythonErrorSet{};
  return truth != 0;
}

void* to_pointer(PyObject* object) {
  void* pointer = PyLong_AsVoidPtr(object);
  if (pointer == nullptr && PyErr_Occurred() != nullptr) throw PythonErrorSet{};
  return pointer;
}

std::string to_string(PyObject* text) {
  const Ref bytes = checked(PyUnicode_AsUTF8String(text));
  const char* chars = PyBytes_AsString(bytes.get());
  if (chars == nullptr) throw PythonErrorSet{};
  return chars;
}

std::string text_of(PyObject* object) {
  const Ref text(PyObject_Str(object));
  const Ref bytes(text ? PyUnicode_AsUTF8String(text.get()) : nullptr);
  const char* chars = bytes ? PyBytes_AsString(bytes.get()) : nullptr;
  if (chars != nullptr) return chars;
  PyErr_Clear();
  return "?";
}

std::string take_python_error() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  const Ref owned_type(type), owned_value(value), owned_traceback(traceback);
  return text_of(value != nullptr ? value : type);
}

int to_dims(PyObject* tuple, int64_t* out) {
  const Py_ssize_t size = PyTuple_Size(tuple);
  if (size < 0) throw PythonErrorSet{};
  if (size > kMaxDims) {
    throw Error(ErrorKind::value, concat("has ", size, " dimensions; it takes at most ", kMaxDims));
  }
  for (Py_ssize_t i = 0; i < size; ++i) out[i] = to_integer(PyTuple_GetItem(tuple, i));
  return static_cast<int>(size);
}

}  // namespace vllm
