// The arguments of copies between a GPU and the host.
#pragma once

#include "params/types.h"

namespace vllm {

struct CopyPinnedParams {
  i64* out;
  const i64* input;
  i64 count;
};

}  // namespace vllm
