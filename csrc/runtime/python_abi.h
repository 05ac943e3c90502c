// The part of Python's stable ABI, version 3.8, that this library calls.
//
// Python's own headers are not used: several of their macros expand to inline code that differs
// from one Python version to the next, so the bits of a wheel would depend on the interpreter that
// built it (docs/decisions). Everything below is in PEP 384's stable ABI since 3.8 or earlier;
// `abi3audit --strict` checks the library that results.
#pragma once

#include <sys/types.h>

extern "C" {

using Py_ssize_t = ssize_t;
// The members in the stable ABI: Py_TYPE in every abi3 module reads the second.
struct _object {
  Py_ssize_t reference_count;
  _object* type;  // borrowed
};
using PyObject = _object;

// References: the functions, not the macros.
void Py_IncRef(PyObject* object);
void Py_DecRef(PyObject* object);

// Objects.
PyObject* PyObject_GetAttr(PyObject* object, PyObject* name);
PyObject* PyObject_GetAttrString(PyObject* object, const char* name);
PyObject* PyObject_CallFunctionObjArgs(PyObject* callable, ...);              // ends with nullptr
PyObject* PyObject_CallMethodObjArgs(PyObject* object, PyObject* name, ...);  // ends with nullptr
PyObject* PyObject_Str(PyObject* object);
int PyObject_IsTrue(PyObject* object);
int PyObject_IsSubclass(PyObject* type, PyObject* base);
extern PyObject _Py_NoneStruct;

// Numbers.
extern PyObject PyLong_Type;
PyObject* PyNumber_Index(PyObject* object);
PyObject* PyLong_FromLongLong(long long value);
long long PyLong_AsLongLong(PyObject* object);  // -1 with an exception set on failure
void* PyLong_AsVoidPtr(PyObject* object);
double PyFloat_AsDouble(PyObject* object);

// Strings and containers.
PyObject* PyUnicode_DecodeFSDefault(const char* text);  // of any bytes: a folder's name has them
PyObject* PyUnicode_InternFromString(const char* utf8);
PyObject* PyUnicode_AsUTF8String(PyObject* text);  // a new bytes object
char* PyBytes_AsString(PyObject* bytes);
Py_ssize_t PyTuple_Size(PyObject* tuple);
PyObject* PyTuple_GetItem(PyObject* tuple, Py_ssize_t index);  // borrowed
PyObject* PyTuple_New(Py_ssize_t size);
int PyTuple_SetItem(PyObject* tuple, Py_ssize_t index, PyObject* stolen);
PyObject* PyList_New(Py_ssize_t size);
int PyList_Append(PyObject* list, PyObject* item);
PyObject* PyDict_GetItemString(PyObject* dict, const char* key);  // borrowed; no exception
int PyCapsule_IsValid(PyObject* capsule, const char* name);
void* PyCapsule_GetPointer(PyObject* capsule, const char* name);

// Exceptions.
extern PyObject* PyExc_Exception;
extern PyObject* PyExc_ValueError;
extern PyObject* PyExc_TypeError;
extern PyObject* PyExc_IndexError;
extern PyObject* PyExc_RuntimeError;
extern PyObject* PyExc_MemoryError;
void PyErr_SetObject(PyObject* type, PyObject* value);
void PyErr_SetString(PyObject* type, const char* utf8);
PyObject* PyErr_Occurred();  // borrowed
int PyErr_ExceptionMatches(PyObject* type);
void PyErr_Fetch(PyObject** type, PyObject** value, PyObject** traceback);
void PyErr_Clear();

// The interpreter.
struct PyThreadState;
PyThreadState* PyEval_SaveThread();
void PyEval_RestoreThread(PyThreadState* state);
PyObject* PyImport_GetModuleDict();  // borrowed: sys.modules

// Module creation: the layouts that the stable ABI fixes.
using PyCFunction = PyObject* (*)(PyObject* self, PyObject* args);
constexpr int METH_VARARGS = 0x0001;
constexpr int PYTHON_ABI_VERSION = 3;

struct PyMethodDef {
  const char* name;
  PyCFunction function;
  int flags;
  const char* doc;
};

struct PyModuleDef {
  struct {
    Py_ssize_t reference_count;
    void* type;
    PyObject* (*init)();
    Py_ssize_t index;
    PyObject* copy;
  } base;
  const char* name;
  const char* doc;
  Py_ssize_t size;
  PyMethodDef* methods;
  void* slots;
  void* traverse;
  void* clear;
  void* free;
};

PyObject* PyModule_Create2(PyModuleDef* definition, int abi_version);
}

namespace vllm {

inline PyObject* const py_none = &_Py_NoneStruct;

// Owns one reference.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* owned) : object_(owned) {}
  Ref(Ref&& other) noexcept : object_(other.object_) { other.object_ = nullptr; }
  Ref& operator=(Ref&& other) noexcept {
    PyObject* old = object_;
    object_ = other.object_;
    other.object_ = nullptr;
    if (old != nullptr) Py_DecRef(old);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr) Py_DecRef(object_);
  }

  PyObject* get() const { return object_; }
  PyObject* release() {
    PyObject* object = object_;
    object_ = nullptr;
    return object;
  }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// PyEval_RestoreThread for C++ code. In a process that is ending it does not return.
void restore_thread(PyThreadState* state);

// Lets other Python threads run until it goes out of scope.
class GilRelease {
 public:
  explicit GilRelease(bool release) : state_(release ? PyEval_SaveThread() : nullptr) {}
  ~GilRelease() {
    if (state_ != nullptr) restore_thread(state_);
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace vllm
