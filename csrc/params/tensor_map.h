// A tensor map: how a tensor lies in global memory and which box of it a bulk copy takes. Opaque;
// made by cuTensorMapEncodeTiled on the host.
#pragma once

namespace vllm {

struct alignas(64) TensorMap {
  unsigned long long words[16];
};

}  // namespace vllm
