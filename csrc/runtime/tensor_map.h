// Tensor maps, which describe the layout of a tensor to bulk copies (TMA).
#pragma once

#include <array>

#include "params/tensor_map.h"

namespace vllm::cuda {

constexpr int kMapDims = 5;

enum class MapType { float16 = 6, bfloat16 = 9 };  // CUtensorMapDataType

// Sizes and boxes are in elements, the innermost dimension first; strides in bytes, without that of
// the innermost, which is contiguous.
struct MapShape {
  void* data;  // at a multiple of 16 bytes, as strides are
  MapType type;
  std::array<unsigned long long, kMapDims> sizes;
  std::array<unsigned long long, kMapDims - 1> strides;
  std::array<unsigned, kMapDims> box;
  int row_bytes;  // of the innermost dimension of a box: 128, 64 or 32, swizzled over as many
};

// Whether the driver makes tensor maps: from CUDA 12.0 on.
bool has_tensor_maps();

// The map of a tensor. Cached by its arguments.
TensorMap tensor_map(const MapShape& shape);

}  // namespace vllm::cuda
