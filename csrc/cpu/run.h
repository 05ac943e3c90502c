// How an op is spread over threads; included by cpu/kernels.h, which is what callers include.
#pragma once

#include "cpu/kernels.h"

namespace vllm::cpu {

// Calls task(context, begin, end) on disjoint ranges that cover [0, items), on this thread and on
// up to `threads - 1` workers, and returns when all of them are done. `task` must not throw.
void parallel_for(void (*task)(const void* context, i64 begin, i64 end), const void* context,
                  i64 items, i64 threads);

// With fewer bytes per thread than this, waking workers takes longer than the work itself.
constexpr i64 kBytesPerThread = 128 * 1024;

template <typename Params>
void run(Kernel<Params> kernel, const Params& params, i64 items, i64 bytes) {
  i64 threads = num_threads();
  if (threads > items) threads = items;
  if (threads > bytes / kBytesPerThread) threads = bytes / kBytesPerThread;
  if (threads <= 1) return kernel(params, 0, items);

  struct Call {
    Kernel<Params> kernel;
    const Params& params;
  } call{kernel, params};
  parallel_for(
      [](const void* context, i64 begin, i64 end) {
        const Call& call = *static_cast<const Call*>(context);
        call.kernel(call.params, begin, end);
      },
      &call, items, threads);
}

}  // namespace vllm::cpu
