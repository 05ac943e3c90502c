// One tile of attention: some query rows of one KV head against some keys, with an online softmax.
// Everything is float32 here, but for the queries and keys of few rows on Arm (cpu/common/dot.h).
// Internal to the isa_*.cpp files: see cpu/table.h.
//
// A row is one query token and one of the query heads that share the KV head, so that a key is read
// once for all of these and, in a prefill, for many tokens. With many rows, a vector lane is a row:
// the softmax needs no reduction across lanes, and queries and scores are stored transposed. With
// few rows, as in decoding, lanes run along the head and along the keys.
#pragma once

#include "cpu/common/dot.h"
#include "cpu/common/exp.h"
#include "cpu/common/matmul.h"
#include "cpu/common/vec.h"
#include "cpu/kernels.h"

namespace vllm::cpu {
namespace {

// Rows of all heads, and keys, at a time. Everything about them stays in the L2 cache: 200 KB for
// the largest heads, on the stack.
constexpr i64 kRows = 64;
constexpr i64 kKeys = 32;

// Up to here, rows are few.
constexpr i64 kFewRows = 4;

constexpr float kLowest = -3.402823466e38f;

inline i64 at_least(i64 x, i64 low) { return x < low ? low : x; }
inline i64 at_most(i64 x, i64 high) { return x > high ? high : x; }
inline i64 clamp(i64 x, i64 low, i64 high) { return at_most(at_least(x, low), high); }
inline i64 lanes_up(i64 x) { return (x + kLanes - 1) / kLanes * kLanes; }

// What is kept from tile to tile, for the rows of all heads.
struct Rows {
  alignas(64) float queries[kRows * kMaxHeadSize];  // few: [row][head]; many: scaled [head][row]
  alignas(64) float sums[kRows * kMaxHeadSize];     // [row][head]: the weighted values so far
  alignas(64) float maxima[kRows];                  // of the scores so far
  alignas(64) float totals[kRows];                  // of their exponentials
  i64 first_key[kRows];                             // what rows see, the same for all heads
  i64 end_key[kRows];
};

// The keys and values of the next tile, for all heads that take turns.
struct Ahead {
  const char* keys[kKeys];  // of the first head
  const char* values[kKeys];
  i64 tokens;
  i64 heads;
  i64 key_head_bytes;
  i64 value_head_bytes;
  i64 size_bytes;
  i64 token, head;  // the first that was not fetched yet

  // Prefetches `count` heads of tokens into the CPU cache, in the order of memory: that triggers
  // the hardware prefetcher, which keeps more reads in flight than instructions alone could. Called
  // for a few heads at a time between the arithmetic, because too many prefetches stall the
  // processor.
  void fetch(i64 count) {
    for (; count > 0 && token < tokens; --count) {
      for (i64 i = 0; i < size_bytes; i += 64) {
        __builtin_prefetch(keys[token] + head * key_head_bytes + i);
      }
      for (i64 i = 0; i < size_bytes; i += 64) {
        __builtin_prefetch(values[token] + head * value_head_bytes + i);
      }
      if (++head == heads) head = 0, ++token;
    }
  }
};

struct Tile {
  alignas(64) float converted[2][kKeys * kMaxHeadSize];
  const void* keys[kKeys];  // [head]; few: Kept<T>, as queries are; many: float
  const float* values[kKeys];
  i64 key_count;
  alignas(64) int begin[kRows], end[kRows];  // the keys that each row sees, relative to the tile
  alignas(64) float weights[kKeys * kRows];  // scores, then exponentials. few: [row][kKeys]
  alignas(64) float rescale[kRows];          // what earlier sums are scaled by
  Ahead ahead;
};

// The rows of one head within `Rows`: [first, first + count), from a multiple of kLanes if many.
struct HeadRows {
  i64 first;
  i64 count;
  i64 size;  // elements of the head

  bool few() const { return count <= kFewRows; }
};

// ---- scores ----------------------------------------------------------------------------------

inline void score_many(const Rows& rows, Tile& tile, const HeadRows& head) {
  for_pieces<kSums / 2>(0, tile.key_count, [&](i64 key, auto key_count) {
    tile.ahead.fetch(decltype(key_count)::value);
    for_pieces<2>(0, lanes_up(head.count) / kLanes, [&](i64 vector, auto vectors) {
      constexpr int R = decltype(key_count)::value, V = decltype(vectors)::value;
      const float* queries = rows.queries + head.first + vector * kLanes;
      Floats sums[R][V] = {};
      accumulate(
          sums, 0, head.size,
          [&](i64 d, int r) { return static_cast<const float*>(tile.keys[key + r])[d]; },
          [&](i64 d, int v) { return load(queries + d * kRows + v * kLanes, All{}); });
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) {
          store(tile.weights + (key + r) * kRows + (vector + v) * kLanes, sums[r][v], All{});
        }
      }
    });
  });
}

template <typename T>
inline void score_few(const Rows& rows, Tile& tile, const HeadRows& head, float scale) {
  for (i64 key = 0; key < tile.key_count; key += 4) {
    tile.ahead.fetch(4);
    const T* keys[4];  // the last one again if there are fewer: its score is masked
    for (i64 k = 0; k < 4; ++k) {
      keys[k] = static_cast<const T*>(tile.keys[at_most(key + k, tile.key_count - 1)]);
    }
    for (i64 row = 0; row < head.count; ++row) {
      const T* query = reinterpret_cast<const T*>(rows.queries + (head.first + row) * kMaxHeadSize);
      Floats sums[4] = {};
      for_lanes<Factors<T>::kSize>(head.size, [&](i64 i, auto n, int) {
        const Factors<T> q = factors(query + i, n);
        for (int k = 0; k < 4; ++k) sums[k] = add_products(sums[k], q, factors(keys[k] + i, n));
      });
      for (Floats& each : sums) each *= scale;
      sums_of(sums, tile.weights + row * kKeys + key);
    }
  }
}

// ---- softmax ---------------------------------------------------------------------------------
// Converts scores to exponentials relative to the maximum so far; masked ones become 0.

inline Floats seen(Ints begin, Ints index, Ints end, Floats score) {
  return ((begin <= index) & (index < end)) ? score : broadcast(-__builtin_inff());
}

inline Floats capped(Floats score, float cap) {
  if (!(cap > 0)) return score;
  // tanh x = 1 - 2 / (e^2x + 1): off by less than 2e-7, absolutely, in [-1, 1].
  return cap - 2.0f * cap / (exp(score * (2.0f / cap)) + 1.0f);
}

inline void exponentiate_many(Rows& rows, Tile& tile, const HeadRows& head, float cap) {
  for (i64 row = 0; row < head.count; row += kLanes) {
    const Ints begin = load_bits<Ints>(tile.begin + row, All{});
    const Ints end = load_bits<Ints>(tile.end + row, All{});
    float* weights = tile.weights + row;
    const Floats before = load(rows.maxima + head.first + row, All{});
    Floats maximum = before;
    for (i64 key = 0; key < tile.key_count; ++key) {
      const Ints index = Ints{} + static_cast<int>(key);
      const Floats score = capped(load(weights + key * kRows, All{}), cap);
      const Floats visible = seen(begin, index, end, score);
      maximum = visible > maximum ? visible : maximum;
      store(weights + key * kRows, visible, All{});
    }
    const Floats rescale = exp(before - maximum);
    Floats total = load(rows.totals + head.first + row, All{}) * rescale;
    for (i64 key = 0; key < tile.key_count; ++key) {
      const Floats weight = exp(load(weights + key * kRows, All{}) - maximum);
      total += weight;
      store(weights + key * kRows, weight, All{});
    }
    store(tile.rescale + row, rescale, All{});
    store(rows.maxima + head.first + row, maximum, All{});
    store(rows.totals + head.first + row, total, All{});
  }
}

inline void exponentiate_few(Rows& rows, Tile& tile, const HeadRows& head, float cap) {
  Ints lanes;
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = lane;
  for (i64 row = 0; row < head.count; ++row) {
    const Ints begin = Ints{} + tile.begin[row], end = Ints{} + tile.end[row];
    float* weights = tile.weights + row * kKeys;
    const float before = rows.maxima[head.first + row];
    Floats maxima = broadcast(before);
    for (i64 key = 0; key < tile.key_count; key += kLanes) {
      const Ints index = lanes + static_cast<int>(key);
      const Floats score = capped(load(weights + key, All{}), cap);
      const Floats visible = seen(begin, index, end, score);
      maxima = visible > maxima ? visible : maxima;
      store(weights + key, visible, All{});
    }
    const float maximum = max(maxima);
    Floats total{};
    for (i64 key = 0; key < tile.key_count; key += kLanes) {
      const Floats weight = exp(load(weights + key, All{}) - maximum);
      total += weight;
      store(weights + key, weight, All{});
    }
    const float rescale = exp(broadcast(before - maximum))[0];
    tile.rescale[row] = rescale;
    rows.maxima[head.first + row] = maximum;
    rows.totals[head.first + row] = rows.totals[head.first + row] * rescale + sum(total);
  }
}

// ---- values ----------------------------------------------------------------------------------

// sums[row + r] = sums[row + r] * rescale + weights . values, over the keys [begin, end).
template <int R>
inline void add_values(Rows& rows, const Tile& tile, const HeadRows& head, i64 row, i64 begin,
                       i64 end, bool rescaled) {
  const i64 row_step = head.few() ? kKeys : 1, key_step = head.few() ? 1 : kRows;
  const float* weights = tile.weights + row * row_step;
  float* const row_sums = rows.sums + (head.first + row) * kMaxHeadSize;
  const auto add = [&](i64 d, auto vectors, auto n) {
    constexpr int V = decltype(vectors)::value;
    Floats sums[R][V];
    for (int r = 0; r < R; ++r) {
      const Floats rescale = broadcast(rescaled ? tile.rescale[row + r] : 1.0f);
      for (int v = 0; v < V; ++v) {
        sums[r][v] = load(row_sums + r * kMaxHeadSize + d + v * kLanes, All{}) * rescale;
      }
    }
    accumulate(
        sums, begin, end, [&](i64 k, int r) { return weights[k * key_step + r * row_step]; },
        [&](i64 k, int v) { return load(tile.values[k] + d + v * kLanes, n); });
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) {
        store(row_sums + r * kMaxHeadSize + d + v * kLanes, sums[r][v], All{});
      }
    }
  };
  constexpr int kVectors = kSums / R < 8 ? kSums / R : 8;
  const i64 whole = head.size / kLanes;
  for_pieces<kVectors>(0, whole, [&](i64 v, auto vectors) { add(v * kLanes, vectors, All{}); });
  const i64 rest = head.size - whole * kLanes;
  if (rest) add(whole * kLanes, Count<1>{}, Some{rest});
}

// Rows are processed together for the keys that all of them attend to, and one by one for the rest:
// 0 times a masked value would be NaN if that value is infinite.
inline void add_all_values(Rows& rows, const Tile& tile, const HeadRows& head) {
  for_pieces<4>(0, head.count, [&](i64 row, auto row_count) {
    constexpr int R = decltype(row_count)::value;
    i64 begin = 0, end = tile.key_count;
    for (i64 r = row; r < row + R; ++r) {
      begin = at_least(begin, tile.begin[r]);
      end = at_most(end, tile.end[r]);
    }
    end = at_least(end, begin);
    add_values<R>(rows, tile, head, row, begin, end, true);
    for (i64 r = row; r < row + R; ++r) {
      const i64 first = tile.begin[r], last = tile.end[r];
      if (first < begin) add_values<1>(rows, tile, head, r, first, at_most(begin, last), false);
      if (end < last) add_values<1>(rows, tile, head, r, at_least(end, first), last, false);
    }
  });
}

template <typename T>
inline void attend_to_tile(Rows& rows, Tile& tile, const HeadRows& head, float scale,
                           float soft_cap) {
  if (head.few()) {
    score_few<Kept<T>>(rows, tile, head, scale);
    exponentiate_few(rows, tile, head, soft_cap);
  } else {
    score_many(rows, tile, head);
    exponentiate_many(rows, tile, head, soft_cap);
  }
  add_all_values(rows, tile, head);
}

}  // namespace
}  // namespace vllm::cpu
