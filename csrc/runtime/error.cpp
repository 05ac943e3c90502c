#include "runtime/error.h"

#include <new>

#include "runtime/python_abi.h"

namespace vllm {
namespace {

PyObject* python_type(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::value:
      return PyExc_ValueError;
    case ErrorKind::type:
      return PyExc_TypeError;
    case ErrorKind::index:
      return PyExc_IndexError;
    case ErrorKind::runtime:
      break;
  }
  return PyExc_RuntimeError;
}

// Not PyErr_SetString, which fails for a message with a path that is not UTF-8.
void set(PyObject* type, const char* message) {
  if (PyObject* text = PyUnicode_DecodeFSDefault(message)) {
    PyErr_SetObject(type, text);
    Py_DecRef(text);
  }
}

}  // namespace

void set_python_error() noexcept {
  try {
    throw;
  } catch (const PythonErrorSet&) {
  } catch (const Error& error) {
    set(python_type(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "vllm: out of memory");
  } catch (const std::exception& error) {
    set(PyExc_RuntimeError, error.what());
  }
}

}  // namespace vllm
