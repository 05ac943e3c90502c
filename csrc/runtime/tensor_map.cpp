#include "runtime/tensor_map.h"

#include <map>
#include <mutex>
#include <tuple>

#include "runtime/driver.h"
#include "runtime/text.h"

namespace vllm::cuda {
namespace {

constexpr int kPromoteTo256 = 3;  // CU_TENSOR_MAP_L2_PROMOTION_L2_256B

auto members(const MapShape& s) {
  return std::tie(s.data, s.type, s.sizes, s.strides, s.box, s.row_bytes);
}
struct Less {
  bool operator()(const MapShape& a, const MapShape& b) const { return members(a) < members(b); }
};

// A model needs two per layer. A cache that has become larger than this is cleared.
constexpr size_t kMostKept = 4096;

TensorMap encode(const MapShape& shape) {
  const int swizzle = shape.row_bytes == 128 ? 3 : shape.row_bytes == 64 ? 2 : 1;
  const std::array<unsigned, kMapDims> steps = {1, 1, 1, 1, 1};
  TensorMap map{};
  const Result result = driver().cuTensorMapEncodeTiled(
      &map, static_cast<int>(shape.type), kMapDims, shape.data, shape.sizes.data(),
      shape.strides.data(), shape.box.data(), steps.data(), /*interleave=*/0, swizzle,
      kPromoteTo256, /*fill=*/0);
  if (result != 0) {
    fail(result, "cuTensorMapEncodeTiled",
         concat(": sizes ", shape.sizes[0], ", ", shape.sizes[1], ", ", shape.sizes[2], ", ",
                shape.sizes[3], ", ", shape.sizes[4], "; strides ", shape.strides[0], ", ",
                shape.strides[1], ", ", shape.strides[2], ", ", shape.strides[3], " bytes"));
  }
  return map;
}

}  // namespace

bool has_tensor_maps() { return driver().cuTensorMapEncodeTiled != nullptr; }

TensorMap tensor_map(const MapShape& shape) {
  static std::mutex mutex;
  static auto& kept = *new std::map<MapShape, TensorMap, Less>;
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = kept.find(shape);
  if (found == kept.end()) {
    if (kept.size() >= kMostKept) kept.clear();
    found = kept.emplace(shape, encode(shape)).first;
  }
  return found->second;
}

}  // namespace vllm::cuda
