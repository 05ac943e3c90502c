// Checks of ops' arguments. A failed check throws an Error that names the op, the argument, its
// value and what is allowed.
#pragma once

#include <string>

#include "params/types.h"
#include "runtime/error.h"
#include "runtime/tensor.h"

namespace vllm::ops {

// Elements of the widest row: the kernels count in 32 bits within a row, in 64 across rows.
constexpr i64 kMaxWidth = 2147483647;

// "<op>: argument '<name>' <got>; it takes <takes>", the message of a failed check.
[[noreturn]] void refuse(ErrorKind kind, const char* op, const Tensor& tensor,
                         const std::string& got, const std::string& takes);

// Bytes of an element, a power of two. A table and not a switch: after a switch, clang-tidy assumes
// that every case is possible, and reports int64 as an index of the float kernel tables.
constexpr i64 kElementSizes[] = {4, 2, 2, 4, 8, 4};  // in the order of DType
constexpr i64 element_size(DType dtype) { return kElementSizes[static_cast<int>(dtype)]; }

std::string shape_text(const Tensor& tensor);

// float32, float16 or bfloat16, on the CPU or a CUDA device.
void require_float(const char* op, const Tensor& tensor);

void require_dtype(const char* op, const Tensor& tensor, DType dtype, const char* why);
void require_same_dtype(const char* op, const Tensor& tensor, const Tensor& like);
void require_same_device(const char* op, const Tensor& tensor, const Tensor& like);
void require_same_shape(const char* op, const Tensor& tensor, const Tensor& like);
void require_ndim(const char* op, const Tensor& tensor, int ndim, const char* shape);

// A one-dimensional contiguous tensor of `length`; `why` explains the length in the error.
void require_vector(const char* op, const Tensor& tensor, i64 length, const char* why);

// The last dimension has stride 1 (or at most one element), and data is aligned to its elements.
void require_contiguous_last(const char* op, const Tensor& tensor);

// A tensor with its leading dimensions collapsed into rows that are `stride` elements apart.
struct RowLayout {
  i64 rows;
  i64 width;
  i64 stride;
};
RowLayout require_rows(const char* op, const Tensor& tensor);

// It is not read-only, and no two of its elements share memory.
void require_writable(const char* op, const Tensor& tensor);

// `written` shares no memory with `other`. With `may_be_same`, they may be one tensor: same start,
// shape and strides.
enum class Sharing { none, may_be_same };
void require_disjoint(const char* op, const Tensor& written, const Tensor& other, Sharing sharing);

}  // namespace vllm::ops
