// For kernels that may be launched while the one before them in the stream still runs
// (cuda::Grid::early): the launch is over by the time that they may begin.
#pragma once

namespace vllm {

// All threads call it before they touch memory that kernels before them may still write, or read:
// what comes before in the stream is done then.
__device__ inline void wait_for_kernels_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

constexpr unsigned kLinePacks = 8;  // packs of 16 bytes in a line of L2

// Asks L2 for a line of 128 bytes; that may be done at any time, for L2 sees later writes too.
__device__ inline void prefetch(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

// The next such kernel may be launched when all blocks have called it, or have ended; it waits for
// their end by itself. Called in a block's last turn, once it has asked for its input: later the
// launch is seen, and sooner blocks that wait take places that this kernel's own could have had.
// Called at once where the next kernel has something to do before it waits, as products of few rows
// have, which ask for weights (docs/decisions/0007).
__device__ inline void allow_kernels_after() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace vllm
