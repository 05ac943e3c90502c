// Errors of native code: one exception type, whose kind selects the Python exception.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace vllm {

enum class ErrorKind {
  value,    // ValueError: a shape, a stride, a device, an option
  type,     // TypeError: a dtype, or an object that is not a tensor
  index,    // IndexError: a position out of range
  runtime,  // RuntimeError: CUDA, or an incomplete installation
};

// The message names the op, the argument, what it got and what it takes.
class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  ErrorKind kind() const noexcept { return kind_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorKind kind_;
  std::string message_;
};

// A Python exception is already set: unwind to the interpreter and let it be raised.
struct PythonErrorSet {};

// Sets the Python exception for the C++ exception being handled. Call it in a catch block only.
void set_python_error() noexcept;

}  // namespace vllm
