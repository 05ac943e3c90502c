// Small conversions from Python objects; every failure throws PythonErrorSet.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/error.h"
#include "runtime/python_abi.h"

namespace vllm {

// Takes a new reference, or throws for a null one.
inline Ref checked(PyObject* owned) {
  if (owned == nullptr) throw PythonErrorSet{};
  return Ref(owned);
}

int64_t to_integer(PyObject* object);  // of what is known to be an int
int64_t to_index(PyObject* object);  // of a caller's argument: refuses floats, which 3.8 truncates
double to_number(PyObject* object);
bool to_bool(PyObject* object);
void* to_pointer(PyObject* object);
std::string to_string(PyObject* text);

// str(object), or "?" where that fails. For messages.
std::string text_of(PyObject* object);

// Clears the Python exception that is set, and returns its message.
std::string take_python_error();

// The integers of a tuple into `out`, which has room for kMaxDims; returns how many there are.
int to_dims(PyObject* tuple, int64_t* out);

}  // namespace vllm
