// The arguments of what a GPU and the host exchange.
#pragma once

#include "params/types.h"

namespace vllm {

struct CopyPinnedParams {
  i64* out;
  const i64* input;
  i64 count;
};

struct WaitForHostParams {
  i64* gate;        // [2] in host memory: what the host has done, what was not waited for
  const i64* due;   // what to wait for
  i64 nanoseconds;  // at most
};

}  // namespace vllm
