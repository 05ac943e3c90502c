// Changes of logits before sampling. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "params/sampling.h"

namespace vllm::cpu {
namespace {

inline void count_tokens(const CountTokensParams& p, i64 begin, i64 end) {
  for (i64 list = begin; list < end; ++list) {
    if (p.counters[list] < 0) continue;
    int* seen = p.state.seen + p.counters[list] * p.state.words;
    int* uses = p.state.uses + p.counters[list] * p.state.vocab;
    for (i64 word = 0; word < p.state.words; ++word) seen[word] = 0;
    for (i64 i = p.starts[list]; i < p.starts[list + 1]; ++i) {
      const i64 token = p.tokens[i];
      seen[token / 32] |= static_cast<int>(1u << (token % 32));
      uses[token] = static_cast<int>(p.uses[i]);
    }
  }
}

// Most words of a large vocabulary are 0: they are tested 16 at a time.
constexpr i64 kWordsAtOnce = 16;

inline bool any_seen(const int* seen, i64 words) {
  int any = 0;
  if (words == kWordsAtOnce) {
    for (i64 word = 0; word < kWordsAtOnce; ++word) any |= seen[word];
  } else {
    for (i64 word = 0; word < words; ++word) any |= seen[word];
  }
  return any != 0;
}

inline void penalize(const PenalizeParams& p, i64 begin, i64 end) {
  for (i64 row = begin; row < end; ++row) {
    if (p.counters[row] < 0) continue;
    int* seen = p.state.seen + p.counters[row] * p.state.words;
    int* uses = p.state.uses + p.counters[row] * p.state.vocab;
    const i64 input = p.inputs[row];
    const int bit = static_cast<int>(1u << (input % 32)), before = seen[input / 32];
    seen[input / 32] = before | bit;
    uses[input] = ((before & bit) != 0 ? uses[input] : 0) + static_cast<int>(p.counts[row]);
    float* logits = p.logits + row * p.stride;
    const float repetition = p.repetition[row];
    const float presence = p.presence[row], frequency = p.frequency[row];
    for (i64 first = 0; first < p.state.words; first += kWordsAtOnce) {
      const i64 left = p.state.words - first, words = left < kWordsAtOnce ? left : kWordsAtOnce;
      if (!any_seen(seen + first, words)) continue;
      for (i64 word = first; word < first + words; ++word) {
        for (auto bits = static_cast<unsigned>(seen[word]); bits != 0; bits &= bits - 1) {
          const i64 token = 32 * word + __builtin_ctz(bits);
          const float x = logits[token], used = static_cast<float>(uses[token]);
          const float repeated = x > 0.0f ? x / repetition : x * repetition;
          logits[token] = repeated - (used > 0.0f ? presence + frequency * used : 0.0f);
        }
      }
    }
  }
}

// Of all changes at once: one logit may be changed several times.
inline void bias_logits(const BiasLogitsParams& p, i64 begin, i64 end) {
  for (i64 i = begin; i < end; ++i) {
    if (p.rows[i] < 0 || (p.after[i] >= 0 && p.after[i] != p.inputs[p.rows[i]])) continue;
    p.logits[p.rows[i] * p.stride + p.tokens[i]] += p.amounts[i];
  }
}

}  // namespace
}  // namespace vllm::cpu
