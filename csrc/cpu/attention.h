// Attention over a paged cache, with an online softmax: keys come in tiles, and what was summed
// before is scaled down whenever a tile raises the maximum. Internal to the isa_*.cpp files: see
// cpu/table.h.
//
// A row is one query token and one of the query heads that share a KV head, so that a key that was
// read serves all of these, and in a prefill many tokens too. Scores are kept as [key][row]: the
// softmax is then the same arithmetic in every lane, a row to a lane.
#pragma once

#include "cpu/exp.h"
#include "cpu/kernels.h"
#include "cpu/matmul.h"
#include "cpu/vec.h"

namespace vllm::cpu {
namespace {

constexpr i64 kRows = 32;  // rows, and keys, at a time: everything of a tile lies in the L2 cache,
constexpr i64 kKeys = 32;  // and for heads of 128 nearly in the L1

// With fewer rows than this, lanes go along the head instead of along the rows in q . k.
constexpr i64 kFewRows = 8;

constexpr float kLowest = -3.402823466e38f;

// Part of the keys of a row, relative to the tile: [begin, end).
struct Span {
  i64 begin;
  i64 end;
};

struct Attention {
  alignas(64) float queries[kMaxHeadSize * kRows];  // few rows: [row][head]; many: [head][row]
  alignas(64) float sums[kRows * kMaxHeadSize];     // [row][head]: the weighted values so far
  alignas(64) float weights[kKeys * kRows];         // [key][row]: scores, then their exponentials
  alignas(64) float converted_keys[kKeys * kMaxHeadSize];
  alignas(64) float converted_values[kKeys * kMaxHeadSize];
  alignas(64) float maxima[kRows];
  alignas(64) float totals[kRows];                           // of the exponentials
  alignas(64) float rescale[kRows];                          // what this tile scales the sums by
  alignas(64) int visible_begin[kRows], visible_end[kRows];  // keys of the tile that a row sees
  const float* keys[kKeys];                                  // [head]
  const float* values[kKeys];
  i64 rows;
  i64 head_size;
};

inline i64 at_least(i64 x, i64 low) { return x < low ? low : x; }
inline i64 at_most(i64 x, i64 high) { return x > high ? high : x; }
inline i64 clamp(i64 x, i64 low, i64 high) { return at_most(at_least(x, low), high); }
inline i64 lanes_up(i64 x) { return (x + kLanes - 1) / kLanes * kLanes; }

inline const float* as_floats(const float* row, i64, float*) { return row; }
template <typename T>
inline const float* as_floats(const T* row, i64 size, float* converted) {
  for_lanes(size, [&](i64 i, auto n, int) { store(converted + i, load(row + i, n), n); });
  return converted;
}

// Points `keys` and `values` at the tile's tokens, in float32.
template <typename T>
inline void gather(const PagedAttentionParams& p, Attention& a, i64 sequence, i64 kv_head,
                   i64 first, i64 count) {
  const int* blocks = p.block_tables + sequence * p.block_tables_stride;
  const T* keys = static_cast<const T*>(p.key_cache) + kv_head * p.key_head_stride;
  const T* values = static_cast<const T*>(p.value_cache) + kv_head * p.value_head_stride;
  i64 index = first / p.block_size, slot = first % p.block_size;
  for (i64 k = 0; k < count; ++k) {
    const T* key = keys + blocks[index] * p.key_block_stride + slot * p.key_slot_stride;
    const T* value = values + blocks[index] * p.value_block_stride + slot * p.value_slot_stride;
    a.keys[k] = as_floats(key, p.head_size, a.converted_keys + k * kMaxHeadSize);
    a.values[k] = as_floats(value, p.head_size, a.converted_values + k * kMaxHeadSize);
    if (++slot == p.block_size) slot = 0, ++index;
  }
}

// weights[key][row] = q . k, a row to a lane.
inline void score_many_rows(Attention& a, i64 keys) {
  for_pieces<kSums / 2>(0, keys, [&](i64 key, auto key_count) {
    for_pieces<2>(0, lanes_up(a.rows) / kLanes, [&](i64 vector, auto vectors) {
      constexpr int R = decltype(key_count)::value, V = decltype(vectors)::value;
      const float* queries = a.queries + vector * kLanes;
      Floats sums[R][V] = {};
      accumulate(
          sums, 0, a.head_size, [&](i64 d, int r) { return a.keys[key + r][d]; },
          [&](i64 d, int v) { return load(queries + d * kRows + v * kLanes, All{}); });
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) {
          store(a.weights + (key + r) * kRows + (vector + v) * kLanes, sums[r][v], All{});
        }
      }
    });
  });
}

// The same, a stretch of the head to a lane.
inline void score_few_rows(Attention& a, i64 keys) {
  for (i64 key = 0; key < keys; ++key) {
    for (i64 row = 0; row < a.rows; ++row) {
      const float* query = a.queries + row * kMaxHeadSize;
      Floats sums[kUnroll] = {};
      for_lanes(a.head_size, [&](i64 i, auto n, int slot) {
        sums[slot] = multiply_add(load(query + i, n), load(a.keys[key] + i, n), sums[slot]);
      });
      a.weights[key * kRows + row] = sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
  }
}

inline void cap_scores(Attention& a, i64 keys, float cap) {
  for (i64 key = 0; key < keys; ++key) {
    for (i64 row = 0; row < a.rows; row += kLanes) {
      float* score = a.weights + key * kRows + row;
      // tanh x = 1 - 2 / (e^2x + 1): off by less than 2e-7, absolutely, in [-1, 1].
      const Floats doubled = load(score, All{}) * (2.0f / cap);
      store(score, cap - (2.0f * cap) / (exp(doubled) + 1.0f), All{});
    }
  }
}

// Scores to their exponentials, relative to the greatest score so far; 0 for keys out of sight.
inline void exponentiate(Attention& a, i64 keys) {
  for (i64 row = 0; row < a.rows; row += kLanes) {
    const auto begin = load_bits<Ints>(a.visible_begin + row, All{});
    const auto end = load_bits<Ints>(a.visible_end + row, All{});
    const Floats before = load(a.maxima + row, All{});
    Floats maximum = before;
    for (i64 key = 0; key < keys; ++key) {
      float* score = a.weights + key * kRows + row;
      const int k = static_cast<int>(key);
      Floats x = load(score, All{});
      x = ((begin <= k) & (end > k)) ? x : broadcast(-__builtin_inff());
      maximum = x > maximum ? x : maximum;
      store(score, x, All{});
    }
    const Floats rescale = exp(before - maximum);
    Floats total = load(a.totals + row, All{}) * rescale;
    for (i64 key = 0; key < keys; ++key) {
      float* score = a.weights + key * kRows + row;
      const Floats weight = exp(load(score, All{}) - maximum);
      total += weight;
      store(score, weight, All{});
    }
    store(a.maxima + row, maximum, All{});
    store(a.rescale + row, rescale, All{});
    store(a.totals + row, total, All{});
  }
}

// sums[row + r] = sums[row + r] * rescale + weights . values, over `span`.
template <int R>
inline void add_values(Attention& a, i64 row, Span span, bool rescaled) {
  const auto add = [&](i64 d, auto vectors, auto n) {
    constexpr int V = decltype(vectors)::value;
    Floats sums[R][V];
    for (int r = 0; r < R; ++r) {
      const Floats rescale = broadcast(rescaled ? a.rescale[row + r] : 1.0f);
      for (int v = 0; v < V; ++v) {
        sums[r][v] = load(a.sums + (row + r) * kMaxHeadSize + d + v * kLanes, All{}) * rescale;
      }
    }
    accumulate(
        sums, span.begin, span.end, [&](i64 k, int r) { return a.weights[k * kRows + row + r]; },
        [&](i64 k, int v) { return load(a.values[k] + d + v * kLanes, n); });
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) {
        store(a.sums + (row + r) * kMaxHeadSize + d + v * kLanes, sums[r][v], All{});
      }
    }
  };
  constexpr int kVectors = kSums / R < 8 ? kSums / R : 8;
  const i64 whole = a.head_size / kLanes;
  for_pieces<kVectors>(0, whole, [&](i64 v, auto vectors) { add(v * kLanes, vectors, All{}); });
  if (a.head_size % kLanes) {
    add(whole * kLanes, Count<1>{}, Some{a.head_size - whole * kLanes});
  }
}

// Rows go together over the keys that all of them see, and alone over the rest: 0 times a value
// that a row does not see would be NaN where that value is infinite.
inline void add_all_values(Attention& a) {
  for_pieces<4>(0, a.rows, [&](i64 row, auto row_count) {
    constexpr int R = decltype(row_count)::value;
    Span shared{0, kKeys};
    for (i64 r = row; r < row + R; ++r) {
      shared.begin = at_least(shared.begin, a.visible_begin[r]);
      shared.end = at_most(shared.end, a.visible_end[r]);
    }
    shared.end = at_least(shared.end, shared.begin);
    add_values<R>(a, row, shared, true);
    for (i64 r = row; r < row + R; ++r) {
      const Span before{a.visible_begin[r], at_most(shared.begin, a.visible_end[r])};
      const Span after{at_least(shared.end, a.visible_begin[r]), a.visible_end[r]};
      if (before.begin < before.end) add_values<1>(a, r, before, false);
      if (after.begin < after.end) add_values<1>(a, r, after, false);
    }
  });
}

// Up to kRows rows of one KV head, from row `first` of the token `token` on.
template <typename T>
inline void attend(const PagedAttentionParams& p, Attention& a, i64 sequence, i64 kv_head,
                   i64 token, i64 first, i64 rows) {
  const i64 group = p.heads / p.kv_heads;
  const i64 before = p.context_lens[sequence] - p.query_starts[sequence + 1];
  const auto token_of = [&](i64 row) { return token + (first + row) / group; };
  const auto head_of = [&](i64 row) { return kv_head * group + (first + row) % group; };
  const auto keys_end = [&](i64 row) { return before + token_of(row) + 1; };
  const auto keys_begin = [&](i64 row) {
    return p.sliding_window > 0 ? at_least(keys_end(row) - p.sliding_window, 0) : 0;
  };

  const bool few = rows < kFewRows;
  a.rows = rows;
  a.head_size = p.head_size;
  for (i64 row = 0; row < lanes_up(rows); ++row) {
    a.maxima[row] = kLowest;
    a.totals[row] = 0;
    a.visible_begin[row] = a.visible_end[row] = 0;
    for (i64 d = 0; d < lanes_up(p.head_size); ++d) a.sums[row * kMaxHeadSize + d] = 0;
    alignas(64) float query[kMaxHeadSize];
    if (row < rows) {
      const T* from = static_cast<const T*>(p.query) + token_of(row) * p.query_token_stride +
                      head_of(row) * p.query_head_stride;
      for_lanes(p.head_size,
                [&](i64 i, auto n, int) { store(query + i, load(from + i, n) * p.scale, n); });
    }
    for (i64 d = 0; d < p.head_size; ++d) {
      a.queries[few ? row * kMaxHeadSize + d : d * kRows + row] = row < rows ? query[d] : 0;
    }
  }

  const i64 end = keys_end(rows - 1);
  for (i64 tile = keys_begin(0); tile < end; tile += kKeys) {
    const i64 keys = at_most(kKeys, end - tile);
    for (i64 row = 0; row < rows; ++row) {
      a.visible_begin[row] = static_cast<int>(clamp(keys_begin(row) - tile, 0, keys));
      a.visible_end[row] = static_cast<int>(clamp(keys_end(row) - tile, 0, keys));
    }
    gather<T>(p, a, sequence, kv_head, tile, keys);
    if (few) {
      score_few_rows(a, keys);
    } else {
      score_many_rows(a, keys);
    }
    if (p.soft_cap > 0) cap_scores(a, keys, p.soft_cap);
    exponentiate(a, keys);
    add_all_values(a);
  }

  for (i64 row = 0; row < rows; ++row) {
    T* out = static_cast<T*>(p.out) + token_of(row) * p.out_token_stride +
             head_of(row) * p.out_head_stride;
    for_lanes(p.head_size, [&](i64 i, auto n, int) {
      store(out + i, load(a.sums + row * kMaxHeadSize + i, n) / a.totals[row], n);
    });
  }
}

// The sequence that a query token is of: the first that ends after it, by halving.
inline i64 sequence_of(const PagedAttentionParams& p, i64 token) {
  i64 low = 0, high = p.sequences - 1;
  while (low < high) {
    const i64 middle = (low + high) / 2;
    if (p.query_starts[middle + 1] > token) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Item i is query token i % tokens, with all the query heads of KV head i / tokens.
template <typename T>
inline void paged_attention(const PagedAttentionParams& p, i64 begin, i64 end) {
  Attention a;
  for (i64 item = begin; item < end;) {
    const i64 kv_head = item / p.tokens, token = item % p.tokens;
    const i64 sequence = sequence_of(p, token);
    const i64 tokens = at_most(p.query_starts[sequence + 1] - token, end - item);
    const i64 rows = tokens * (p.heads / p.kv_heads);
    for (i64 first = 0; first < rows; first += kRows) {
      attend<T>(p, a, sequence, kv_head, token, first, at_most(rows - first, kRows));
    }
    item += tokens;
  }
}

}  // namespace
}  // namespace vllm::cpu
