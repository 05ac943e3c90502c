// For kernels that may be launched while the one before them in the stream still runs
// (cuda::Grid::early): the launch is over by the time that they may begin.
#pragma once

namespace vllm {

// All threads call it before they touch memory: what comes before in the stream is done then. The
// next such kernel may be launched when the blocks of this one end, and waits likewise. To allow
// that from here on ("griddepcontrol.launch_dependents") measured slower: its blocks wait in places
// that this kernel's own could have had.
__device__ inline void wait_for_kernels_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace vllm
