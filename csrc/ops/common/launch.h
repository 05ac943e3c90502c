// The last of an op's four steps: running the chosen kernel, on the CPU or on CUDA.
#pragma once

#include <algorithm>

#include "cpu/kernels.h"
#include "ops/common/checks.h"
#include "runtime/kernel.h"
#include "runtime/python_abi.h"
#include "runtime/tensor_source.h"

namespace vllm::ops {

// Releases the GIL: from here on, an op takes long enough for other Python threads to run.
constexpr i64 kReleaseGilBytes = 64 * 1024;

template <typename Params>
void run_on_cpu(cpu::Kernel<Params> kernel, const Params& params, i64 items, i64 bytes) {
  const GilRelease released(bytes >= kReleaseGilBytes);
  cpu::run(kernel, params, items, bytes);
}

// Launches on the current stream of the library that owns `tensor`, on its device.
template <typename Params>
void run_on_cuda(cuda::Kernel& kernel, const cuda::Grid& grid, const Params& params,
                 const Tensor& tensor) {
  void* stream = tensor.source->current_stream(tensor.device_index);
  const cuda::ContextGuard guard(tensor.device_index);
  kernel.launch(tensor.device_index, stream, grid, params);
}

constexpr i64 kMostBlocks = 2147483647;  // along x

// The x dimension of a grid for `items`; kernels loop if there are more than a grid may have.
inline unsigned grid_x(i64 items) { return static_cast<unsigned>(std::min(items, kMostBlocks)); }

// The grid of a kernel that uses PDL: it waits for earlier kernels itself.
inline cuda::Grid early_grid(unsigned x, unsigned y, unsigned threads, unsigned shared = 0) {
  return {x, y, threads, shared, true};
}

// Whole warps for `work` items, at most `limit` threads.
inline unsigned block_threads(i64 work, i64 limit) {
  return static_cast<unsigned>(std::min((work + 31) / 32 * 32, limit));
}

// For kernels without loops, with a thread for `held` of the `packs` of a row. The grid's x
// dimension covers the parts of a row, so that adjacent parts run at about the same time; its y
// dimension covers the rows. More rows than a grid can have take several launches.
template <typename Params>
void run_packs_on_cuda(cuda::Kernel& kernel, Params params, i64 rows, i64 packs, i64 held,
                       const Tensor& tensor) {
  constexpr i64 kPacksInBlock = 256, kMostRows = 65535;
  const i64 parts = (packs + kPacksInBlock - 1) / kPacksInBlock;
  const i64 threads = ((packs + parts - 1) / parts + held - 1) / held;
  for (params.first = 0; params.first < rows; params.first += kMostRows) {
    const auto rows_here = static_cast<unsigned>(std::min(rows - params.first, kMostRows));
    run_on_cuda(
        kernel,
        early_grid(static_cast<unsigned>(parts), rows_here, block_threads(threads, kPacksInBlock)),
        params, tensor);
  }
}

// Whether every row of `tensor` can be read in 16-byte packs: the start, the distance between rows
// and `part`, a length in elements that packs must divide.
inline bool packs_16_bytes(const void* data, i64 rows, i64 stride, i64 part, i64 element_size) {
  const auto address = static_cast<i64>(reinterpret_cast<uintptr_t>(data));
  const i64 row = rows > 1 ? stride * element_size : 0;
  return ((address | row | part * element_size) & 15) == 0;
}

}  // namespace vllm::ops
