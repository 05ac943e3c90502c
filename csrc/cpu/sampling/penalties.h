// Changes of single logits. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/vec.h"
#include "params/sampling.h"

namespace vllm::cpu {
namespace {

template <typename T>
inline void penalize(const PenalizeParams& p, i64 begin, i64 end) {
  for (i64 i = begin; i < end; ++i) {
    T* logit = static_cast<T*>(p.logits) + p.rows[i] * p.stride + p.tokens[i];
    const float x = load(logit, Some{1})[0], factor = p.repetition[i];
    const float changed = (x > 0.0f ? x / factor : x * factor) - p.subtract[i];
    store(logit, broadcast(changed), Some{1});
  }
}

}  // namespace
}  // namespace vllm::cpu
