// Programmatic dependent launch (PDL): a kernel may be launched while the previous one in the
// stream still runs (cuda::Grid::early), which hides its launch latency.
#pragma once

namespace vllm {

// griddepcontrol.wait: waits until all earlier kernels in the stream have completed. All threads
// must call it before they access memory that earlier kernels may still read or write.
__device__ inline void wait_for_kernels_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

constexpr unsigned kLinePacks = 8;  // packs of 16 bytes in a line of L2

// Prefetches a line of 128 bytes into L2. Allowed at any time, because L2 is coherent: later writes
// update the line.
__device__ inline void prefetch(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

// griddepcontrol.launch_dependents: the next kernel may be launched when all CTAs have called it or
// have ended. That kernel waits for the end of this one itself. Call it in a CTA's last iteration,
// after its loads have been issued: later, the launch latency shows; earlier, waiting CTAs of the
// next kernel occupy slots that CTAs of this one need. Call it at once if the next kernel has work
// to do before it waits, as few_rows does, which prefetches weights (docs/decisions/0007).
__device__ inline void allow_kernels_after() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace vllm
