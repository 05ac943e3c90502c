// Attention over a paged cache: which rows, keys and values go together. The arithmetic is in
// cpu/attention_tile.h. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/attention/attention_tile.h"
#include "cpu/common/vec.h"
#include "params/attention.h"

namespace vllm::cpu {
namespace {

// Query tokens of one sequence, and KV heads with all the query heads that share them. Rows and
// heads are counted from the first of these.
struct Queries {
  const PagedAttentionParams& p;
  i64 sequence;
  i64 token;
  i64 tokens;
  i64 kv_head;
  i64 kv_heads;

  i64 group() const { return p.heads / p.kv_heads; }
  i64 token_of(i64 row) const { return token + row / group(); }
  i64 head_of(i64 head, i64 row) const { return (kv_head + head) * group() + row % group(); }

  // The keys that a row sees: [first_key, end_key).
  i64 end_key(i64 row) const {
    return p.context_lens[sequence] - p.query_starts[sequence + 1] + token_of(row) + 1;
  }
  i64 first_key(i64 row) const {
    return p.sliding_window > 0 ? at_least(end_key(row) - p.sliding_window, 0) : 0;
  }
};

// The row as elements of To, T itself or float: in `converted` where they differ.
template <typename To, typename T>
inline const To* as(const T* row, i64 size, float* converted) {
  if constexpr (sizeof(To) == sizeof(T)) {
    return reinterpret_cast<const To*>(row);
  } else {
    for_lanes(size, [&](i64 i, auto n, int) { store(converted + i, load(row + i, n), n); });
    return converted;
  }
}

// Where the caches hold the keys and values of some tokens, for KV head 0.
struct Offsets {
  i64 key[kKeys];
  i64 value[kKeys];
  i64 count;
};

inline void locate(const Queries& q, i64 first, i64 end, Offsets& offsets) {
  const PagedAttentionParams& p = q.p;
  const int* blocks = p.block_tables + q.sequence * p.block_tables_stride;
  i64 index = first / p.block_size, slot = first % p.block_size;
  offsets.count = clamp(end - first, 0, kKeys);
  for (i64 k = 0; k < offsets.count; ++k) {
    const i64 block = blocks[index];
    offsets.key[k] = block * p.key_block_stride + slot * p.key_slot_stride;
    offsets.value[k] = block * p.value_block_stride + slot * p.value_slot_stride;
    if (++slot == p.block_size) slot = 0, ++index;
  }
}

// Points the tile at one head of these tokens: its values in float32, its keys as `Key`.
template <typename Key, typename T>
inline void take(const PagedAttentionParams& p, Tile& tile, const Offsets& offsets, i64 kv_head) {
  const T* keys = static_cast<const T*>(p.key_cache) + kv_head * p.key_head_stride;
  const T* values = static_cast<const T*>(p.value_cache) + kv_head * p.value_head_stride;
  tile.key_count = offsets.count;
  for (i64 k = 0; k < offsets.count; ++k) {
    const i64 place = k * kMaxHeadSize;
    tile.keys[k] = as<Key>(keys + offsets.key[k], p.head_size, tile.converted[0] + place);
    tile.values[k] = as<float>(values + offsets.value[k], p.head_size, tile.converted[1] + place);
  }
}

// Describes the next tile, so that its keys and values can be prefetched.
template <typename T>
inline void expect(const PagedAttentionParams& p, Ahead& ahead, const Offsets& offsets, i64 kv_head,
                   i64 heads) {
  const T* keys = static_cast<const T*>(p.key_cache) + kv_head * p.key_head_stride;
  const T* values = static_cast<const T*>(p.value_cache) + kv_head * p.value_head_stride;
  constexpr i64 kBytes = sizeof(T);
  for (i64 k = 0; k < offsets.count; ++k) {
    ahead.keys[k] = reinterpret_cast<const char*>(keys + offsets.key[k]);
    ahead.values[k] = reinterpret_cast<const char*>(values + offsets.value[k]);
  }
  ahead.tokens = offsets.count;
  ahead.heads = heads;
  ahead.key_head_bytes = p.key_head_stride * kBytes;
  ahead.value_head_bytes = p.value_head_stride * kBytes;
  ahead.size_bytes = p.head_size * kBytes;
  ahead.token = ahead.head = 0;
}

template <typename T>
inline void load_queries(const Queries& q, Rows& rows, const HeadRows& head, i64 h, i64 skip) {
  const i64 lanes = head.few() ? head.count : lanes_up(head.count);
  for (i64 row = 0; row < lanes; ++row) {
    const T* from = static_cast<const T*>(q.p.query) +
                    q.token_of(skip + row) * q.p.query_token_stride +
                    q.head_of(h, skip + row) * q.p.query_head_stride;
    if (head.few()) {
      Kept<T>* to = reinterpret_cast<Kept<T>*>(rows.queries + (head.first + row) * kMaxHeadSize);
      for_lanes(head.size, [&](i64 i, auto n, int) { store(to + i, load(from + i, n), n); });
    } else {
      float query[kMaxHeadSize] = {};  // lanes without a row compute with zeros
      if (row < head.count) {
        for_lanes(head.size,
                  [&](i64 i, auto n, int) { store(query + i, load(from + i, n) * q.p.scale, n); });
      }
      for (i64 i = 0; i < head.size; ++i) rows.queries[i * kRows + head.first + row] = query[i];
    }
    float* sums = rows.sums + (head.first + row) * kMaxHeadSize;
    for (i64 i = 0; i < lanes_up(head.size); ++i) sums[i] = 0;
    rows.maxima[head.first + row] = kLowest;
    rows.totals[head.first + row] = 0;
  }
}

template <typename T>
inline void store_out(const Queries& q, const Rows& rows, const HeadRows& head, i64 h, i64 skip) {
  for (i64 row = 0; row < head.count; ++row) {
    T* out = static_cast<T*>(q.p.out) + q.token_of(skip + row) * q.p.out_token_stride +
             q.head_of(h, skip + row) * q.p.out_head_stride;
    const float* sums = rows.sums + (head.first + row) * kMaxHeadSize;
    const float total = rows.totals[head.first + row];
    for_lanes(head.size, [&](i64 i, auto n, int) { store(out + i, load(sums + i, n) / total, n); });
  }
}

// Rows [skip, skip + count) of `heads` KV heads from `first_head` of `q` on. Heads take turns
// within a tile: their keys lie side by side in memory.
template <typename T>
inline void attend(const Queries& q, Rows& rows, Tile& tile, i64 first_head, i64 heads, i64 skip,
                   i64 count) {
  const i64 step = count <= kFewRows ? count : lanes_up(count);
  const auto head_at = [&](i64 h) { return HeadRows{h * step, count, q.p.head_size}; };

  for (i64 h = 0; h < heads; ++h) load_queries<T>(q, rows, head_at(h), first_head + h, skip);
  for (i64 row = 0; row < lanes_up(count); ++row) {
    rows.first_key[row] = row < count ? q.first_key(skip + row) : 0;
    rows.end_key[row] = row < count ? q.end_key(skip + row) : 0;
  }

  const i64 first = rows.first_key[0], end = rows.end_key[count - 1];
  Offsets here, next;
  locate(q, first, end, next);
  for (i64 key = first; key < end; key += kKeys) {
    here = next;
    locate(q, key + kKeys, end, next);
    expect<T>(q.p, tile.ahead, next, q.kv_head + first_head, heads);
    for (i64 row = 0; row < lanes_up(count); ++row) {
      tile.begin[row] = static_cast<int>(clamp(rows.first_key[row] - key, 0, here.count));
      tile.end[row] = static_cast<int>(clamp(rows.end_key[row] - key, 0, here.count));
    }
    for (i64 h = 0; h < heads; ++h) {
      const i64 kv_head = q.kv_head + first_head + h;
      if (head_at(h).few()) {
        take<Kept<T>, T>(q.p, tile, here, kv_head);
      } else {
        take<float, T>(q.p, tile, here, kv_head);
      }
      attend_to_tile<T>(rows, tile, head_at(h), q.p.scale, q.p.soft_cap);
    }
  }
  for (i64 h = 0; h < heads; ++h) store_out<T>(q, rows, head_at(h), first_head + h, skip);
}

// The sequence of a query token: the first that ends after it, by binary search.
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

// Items are ordered by sequence, then KV head, then query token: tokens of a prefill that share
// keys are neighbours, and so are the heads of a decoding token.
template <typename T>
inline void paged_attention(const PagedAttentionParams& p, i64 begin, i64 end) {
  Rows rows;
  Tile tile;
  for (i64 item = begin; item < end;) {
    const i64 sequence = sequence_of(p, item / p.kv_heads);
    const i64 start = p.query_starts[sequence];
    const i64 tokens = p.query_starts[sequence + 1] - start;
    const i64 local = item - start * p.kv_heads;
    const i64 left = at_most(end - item, tokens * p.kv_heads - local);
    Queries q{p, sequence, start + local % tokens, tokens, local / tokens, left / tokens};
    if (local % tokens != 0 || left < tokens) {  // a part of one head's tokens
      q.tokens = at_most(tokens - local % tokens, left);
      q.kv_heads = 1;
    }
    item += q.tokens * q.kv_heads;

    const i64 count = q.tokens * q.group();
    const i64 together = at_least(kRows / (count <= kFewRows ? count : lanes_up(count)), 1);
    for (i64 head = 0; head < q.kv_heads; head += together) {
      const i64 heads = at_most(q.kv_heads - head, together);
      for (i64 skip = 0; skip < count; skip += kRows) {
        attend<T>(q, rows, tile, head, heads, skip, at_most(count - skip, kRows));
      }
    }
  }
}

}  // namespace
}  // namespace vllm::cpu
