// A tensor as an op sees it: a borrowed pointer with its shape, whoever owns the memory.
#pragma once

#include <cstdint>

struct _object;  // PyObject

namespace vllm {

class TensorSource;

enum class DType : uint8_t { float32, float16, bfloat16, int32, int64, other };

// The dtypes that every op takes, in the order of the kernel tables.
constexpr int kFloatTypes = 3;
constexpr int float_index(DType dtype) { return static_cast<int>(dtype); }

enum class DeviceType : uint8_t { cpu, cuda, other };

constexpr int kMaxDims = 8;

struct Tensor {
  const char* name;  // the argument's name, for errors
  void* data;
  DType dtype;
  DeviceType device_type;
  bool read_only;
  int device_index;  // 0 on the CPU
  int ndim;
  int64_t shape[kMaxDims];
  int64_t strides[kMaxDims];   // in elements
  _object* object;             // borrowed from the caller's arguments
  const TensorSource* source;  // how `object` is read, and whose current stream is meant
};

}  // namespace vllm
