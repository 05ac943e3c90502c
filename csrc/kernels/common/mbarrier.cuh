// Barriers in shared memory that count arrivals and bytes copied in bulk, by PTX (ISA,
// "mbarrier"). Compute capability 9.0 and later. A barrier is named by its shared address.
#pragma once

namespace vllm {

#if __CUDA_ARCH__ >= 900

// Initialises a barrier for `arrivals` per phase. One thread initialises the CTA's barriers, then
// calls publish_barriers; then the CTA synchronises.
__device__ inline void make_barrier(unsigned barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void arrive(unsigned barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives, and makes the phase wait for `bytes` more bytes of bulk copies (its transaction count).
__device__ inline void arrive_and_expect(unsigned barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Waits for the end of the phase with this parity. The first phase has parity 0, the second 1, and
// so on; before the first phase, waiting for parity 1 returns at once.
__device__ inline void wait(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Makes this thread's writes to shared memory visible to later bulk copies and wgmma (the async
// proxy), in this thread and in threads that synchronise with it.
__device__ inline void publish_to_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The position in a ring of kStages buffers, tracked by the producer and by each consumer. parity:
// of the phase to wait for next; starts at 0 in a consumer and at 1 in the producer, whose buffers
// are free at first.
template <int kStages>
struct Ring {
  int stage;
  unsigned parity;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

#endif  // __CUDA_ARCH__ >= 900

}  // namespace vllm
