#include "ops/common/checks.h"

#include "runtime/tensor_source.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

std::string device_text(const Tensor& tensor) {
  switch (tensor.device_type) {
    case DeviceType::cpu:
      return "the CPU";
    case DeviceType::cuda:
      return concat("cuda:", tensor.device_index);
    case DeviceType::other:
      break;
  }
  return "another kind of device";
}

std::string dims_text(const int64_t* dims, int count) {
  std::string text = "(";
  for (int i = 0; i < count; ++i) text += concat(i == 0 ? "" : ", ", dims[i]);
  return text + (count == 1 ? ",)" : ")");
}

}  // namespace

void refuse(ErrorKind kind, const char* op, const Tensor& tensor, const std::string& got,
            const std::string& takes) {
  throw Error(kind, concat(op, ": argument '", tensor.name, "' ", got, "; it takes ", takes));
}

std::string shape_text(const Tensor& tensor) { return dims_text(tensor.shape, tensor.ndim); }

void require_float(const char* op, const Tensor& tensor) {
  if (float_index(tensor.dtype) >= kFloatTypes) {
    refuse(ErrorKind::type, op, tensor, concat("has dtype ", dtype_name(tensor)),
           "float32, float16 or bfloat16");
  }
  if (tensor.device_type == DeviceType::other) {
    refuse(ErrorKind::value, op, tensor, concat("is on ", device_text(tensor)),
           "a tensor on the CPU or on a CUDA device");
  }
}

void require_dtype(const char* op, const Tensor& tensor, DType dtype, const char* why) {
  if (tensor.dtype != dtype) {
    refuse(ErrorKind::type, op, tensor, concat("has dtype ", dtype_name(tensor)),
           concat(dtype_name(dtype), why));
  }
}

void require_same_dtype(const char* op, const Tensor& tensor, const Tensor& like) {
  if (tensor.dtype != like.dtype) {
    refuse(ErrorKind::type, op, tensor, concat("has dtype ", dtype_name(tensor)),
           concat(dtype_name(like), ", the dtype of '", like.name, "'"));
  }
}

void require_same_device(const char* op, const Tensor& tensor, const Tensor& like) {
  if (tensor.device_type != like.device_type || tensor.device_index != like.device_index) {
    refuse(ErrorKind::value, op, tensor, concat("is on ", device_text(tensor)),
           concat("a tensor on ", device_text(like), ", where '", like.name, "' is"));
  }
}

void require_same_shape(const char* op, const Tensor& tensor, const Tensor& like) {
  bool same = tensor.ndim == like.ndim;
  for (int i = 0; same && i < like.ndim; ++i) same = tensor.shape[i] == like.shape[i];
  if (!same) {
    refuse(ErrorKind::value, op, tensor, concat("has shape ", shape_text(tensor)),
           concat(shape_text(like), ", the shape of '", like.name, "'"));
  }
}

void require_ndim(const char* op, const Tensor& tensor, int ndim, const char* shape) {
  if (tensor.ndim != ndim) {
    refuse(ErrorKind::value, op, tensor, concat("has shape ", shape_text(tensor)), shape);
  }
}

void require_vector(const char* op, const Tensor& tensor, i64 length, const char* why) {
  if (tensor.ndim != 1 || tensor.shape[0] != length) {
    refuse(ErrorKind::value, op, tensor, concat("has shape ", shape_text(tensor)),
           concat("(", length, ",), ", why));
  }
  require_contiguous_last(op, tensor);
}

void require_contiguous_last(const char* op, const Tensor& tensor) {
  if (tensor.ndim == 0) {
    refuse(ErrorKind::value, op, tensor, "has no dimensions", "at least one");
  }
  const int last = tensor.ndim - 1;
  if (tensor.shape[last] > 1 && tensor.strides[last] != 1) {
    refuse(ErrorKind::value, op, tensor,
           concat("has stride ", tensor.strides[last], " in its last dimension"),
           "1 there (a contiguous last dimension)");
  }
  const i64 size = element_size(tensor.dtype);
  if ((reinterpret_cast<uintptr_t>(tensor.data) & static_cast<uintptr_t>(size - 1)) != 0) {
    refuse(ErrorKind::value, op, tensor, "starts at an address that is not aligned",
           concat("a multiple of its element size ", size));
  }
}

RowLayout require_rows(const char* op, const Tensor& tensor) {
  require_contiguous_last(op, tensor);
  const int last = tensor.ndim - 1;
  RowLayout rows{1, tensor.shape[last], tensor.shape[last]};
  if (rows.width > kMaxWidth) {
    refuse(ErrorKind::value, op, tensor, concat("has rows of ", rows.width, " elements"),
           concat("at most ", kMaxWidth));
  }
  for (int dim = last - 1; dim >= 0; --dim) {
    if (tensor.shape[dim] == 1) continue;
    if (rows.rows == 1) {
      rows.stride = tensor.strides[dim];
    } else if (rows.rows != 0 && tensor.strides[dim] != rows.stride * rows.rows) {
      refuse(ErrorKind::value, op, tensor,
             concat("has strides ", dims_text(tensor.strides, tensor.ndim), " for shape ",
                    shape_text(tensor)),
             "leading dimensions that make rows with one stride between them");
    }
    rows.rows *= tensor.shape[dim];
  }
  return rows;
}

}  // namespace vllm::ops
