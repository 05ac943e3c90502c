// Waits until the host has written a number, so that what follows in the stream can be launched
// before the host has made the data that it reads. One thread polls pinned host memory, once in the
// time that a read over the bus takes.
#include "params/copy.h"

namespace vllm {

// Acquire: what the host wrote before the number is visible to this thread, and so to all kernels
// behind this one.
__device__ inline i64 load_acquire(const i64* from) {
  i64 got;
  asm volatile("ld.acquire.sys.global.s64 %0, [%1];" : "=l"(got) : "l"(from) : "memory");
  return got;
}

__device__ inline i64 nanoseconds_now() {
  i64 now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

}  // namespace vllm

extern "C" __global__ void __launch_bounds__(32) wait_for_host(vllm::WaitForHostParams p) {
  const vllm::i64 due = *p.due, start = vllm::nanoseconds_now();
  while (vllm::load_acquire(p.gate) < due) {
    if (vllm::nanoseconds_now() - start < p.nanoseconds) continue;
    if (vllm::load_acquire(p.gate) >= due) return;  // the time may have passed in one stop
    asm volatile("st.relaxed.sys.global.s64 [%0], %1;" ::"l"(p.gate + 1), "l"(due) : "memory");
    return;
  }
}
