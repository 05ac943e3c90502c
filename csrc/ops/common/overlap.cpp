// Which tensors share memory. Exact for the layouts that occur (whole tensors, rows, slices of
// rows that interleave, as query and key in one projection do); where strides differ and the
// extents meet, it says yes.
#include "ops/common/checks.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

struct Dim {
  i64 stride;  // bytes, positive
  i64 size;
};

// Where a tensor's bytes lie, without the gaps between them.
struct Bounds {
  i64 begin;
  i64 end;
};

// A tensor's bytes: `span` bytes, `count` times, `stride` apart from `begin`.
struct Extent {
  i64 begin;
  i64 span;
  i64 stride;
  i64 count;
  bool overlaps_itself;
};

// False for a tensor without elements.
bool bounds_of(const Tensor& tensor, Bounds& bounds) {
  const i64 size = element_size(tensor.dtype);
  bounds.begin = static_cast<i64>(reinterpret_cast<uintptr_t>(tensor.data));
  bounds.end = bounds.begin + size;
  for (int i = 0; i < tensor.ndim; ++i) {
    if (tensor.shape[i] == 0) return false;
    const i64 reach = tensor.strides[i] * size * (tensor.shape[i] - 1);
    (reach < 0 ? bounds.begin : bounds.end) += reach;
  }
  return true;
}

// False for a tensor without elements.
bool extent_of(const Tensor& tensor, Extent& extent) {
  const i64 size = element_size(tensor.dtype);
  Dim dims[kMaxDims];
  int count = 0;
  extent = {static_cast<i64>(reinterpret_cast<uintptr_t>(tensor.data)), size, 0, 1, false};
  for (int i = 0; i < tensor.ndim; ++i) {
    if (tensor.shape[i] == 0) return false;
    if (tensor.shape[i] == 1) continue;
    i64 stride = tensor.strides[i] * size;
    if (stride < 0) {  // like NumPy's x[::-1]: the same bytes, counted from the other end
      extent.begin += stride * (tensor.shape[i] - 1);
      stride = -stride;
    }
    int at = count++;  // sorted by stride
    for (; at > 0 && dims[at - 1].stride > stride; --at) dims[at] = dims[at - 1];
    dims[at] = {stride, tensor.shape[i]};
  }
  for (int i = 0; i < count; ++i) {
    if (dims[i].stride < extent.span) extent.overlaps_itself = true;
    if (i == count - 1) {
      extent.stride = dims[i].stride;
      extent.count = dims[i].size;
    } else {
      extent.span += dims[i].stride * (dims[i].size - 1);
    }
  }
  return true;
}

// Of tensors whose bounds meet.
bool share_memory(const Extent& a, const Extent& b) {
  const i64 stride = a.count > 1 ? a.stride : b.stride;
  if (a.count > 1 && b.count > 1 && a.stride != b.stride) return true;
  if (stride == 0) return true;
  // Both repeat every `stride` bytes: b starts `offset` after a within one period.
  const i64 offset = ((b.begin - a.begin) % stride + stride) % stride;
  return offset < a.span || offset + b.span > stride;
}

bool same_layout(const Tensor& a, const Tensor& b) {
  if (a.data != b.data || a.ndim != b.ndim || a.dtype != b.dtype) return false;
  for (int i = 0; i < a.ndim; ++i) {
    if (a.shape[i] != b.shape[i]) return false;
    if (a.shape[i] > 1 && a.strides[i] != b.strides[i]) return false;
  }
  return true;
}

}  // namespace

void require_writable(const char* op, const Tensor& tensor) {
  if (tensor.read_only) {
    refuse(ErrorKind::value, op, tensor, "is read-only", "memory that it may write to");
  }
  Extent extent;
  if (extent_of(tensor, extent) && extent.overlaps_itself) {
    refuse(ErrorKind::value, op, tensor, "has elements that share memory (an expanded tensor?)",
           "one place per element, since it is written to");
  }
}

void require_disjoint(const char* op, const Tensor& written, const Tensor& other, Sharing sharing) {
  if (sharing == Sharing::may_be_same && same_layout(written, other)) return;
  // Nearly always the two do not intersect, and their layouts do not matter.
  Bounds bounds, others;
  if (!bounds_of(written, bounds) || !bounds_of(other, others)) return;
  if (bounds.end <= others.begin || others.end <= bounds.begin) return;
  Extent a, b;
  if (!extent_of(written, a) || !extent_of(other, b) || !share_memory(a, b)) return;
  refuse(ErrorKind::value, op, written, concat("shares memory with '", other.name, "'"),
         sharing == Sharing::may_be_same ? "the very same tensor, or memory of its own"
                                         : "memory of its own");
}

}  // namespace vllm::ops
