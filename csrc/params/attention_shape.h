// The shapes of the attention kernels' CTAs (thread blocks), for launchers and kernels.
#pragma once

namespace vllm {

constexpr int kAttentionWarps = 4;
constexpr int kAttentionThreads = 32 * kAttentionWarps;

// Bytes of a row of keys or values of 16-bit elements in shared memory; see SharedRows.
constexpr int shared_row_bytes(int head_size) {
  const int segments = head_size / 8;
  const bool swizzled = segments >= 8 && (segments & (segments - 1)) == 0;
  return (swizzled ? segments : segments | 1) * 16;
}

// The most shared memory of a CTA, by compute capability (80 for 8.0): CUDA C++ Programming Guide,
// "Technical Specifications per Compute Capability".
constexpr int block_shared_bytes(int arch) {
  const bool small = arch == 86 || arch == 89 || arch >= 120;
  return (arch < 80 ? 64 : small ? 99 : arch < 90 ? 163 : 227) * 1024;
}

// float32 between neighbouring rows of a warp's result: 4 more, so that rows start in other banks.
constexpr int decode_result_pitch(int head_size) { return head_size + 4; }

// Dynamic shared memory: each warp's chunks of 16 keys and of 16 values, then its 8 rows of results
// and, twice, their greatest scores and sums.
constexpr int decode_shared_bytes(int head_size, int stages) {
  const int chunks = 2 * 16 * shared_row_bytes(head_size) * stages;
  const int results = 8 * decode_result_pitch(head_size) * 4;
  return kAttentionWarps * (chunks + results + 2 * 8 * 8);
}

// Chunks of keys and values that a warp of the decode kernel has in flight: as many as let two CTAs
// fit on a multiprocessor with 228 kB, or as one CTA may have. Without asynchronous copies there is
// only one.
constexpr int decode_stages(int head_size, int arch) {
  if (arch < 80) return 1;
  int stages = head_size <= 64 ? 6 : head_size <= 80 ? 4 : head_size <= 128 ? 3 : 2;
  while (stages > 1 && decode_shared_bytes(head_size, stages) > block_shared_bytes(arch)) --stages;
  return stages;
}

// CTAs that fit on one multiprocessor, from one to `most`.
// bytes: a CTA's shared memory, of which it takes another 1 KiB (CUDA C++ Programming Guide,
// "Compute Capability 8.x" and later). processor_bytes: the multiprocessor's.
constexpr int blocks_per_processor(int bytes, int processor_bytes, int most) {
  const int fitting = processor_bytes / (bytes + 1024);
  return fitting < 1 ? 1 : fitting < most ? fitting : most;
}

// CTAs of the decode kernel that fit, at most two, since more gain nothing.
constexpr int decode_blocks_per_processor(int head_size, int arch, int processor_bytes) {
  if (arch < 80) return 1;
  const int bytes = decode_shared_bytes(head_size, decode_stages(head_size, arch));
  return blocks_per_processor(bytes, processor_bytes, 2);
}

// attention_newest.cu: each warp of a CTA has a stage for one chunk of keys and of values in shared
// memory; the CTAs of a cluster share an item.
constexpr int kNewestWarps = 8;
constexpr int kMostCluster = 4;

// Bytes of a warp's result for some rows: fragments for pairs of rows, and for each pair the
// greatest scores and the sums.
constexpr int newest_result_bytes(int head_size, int rows) {
  return (rows + 1) / 2 * (head_size / 16 * 8 * 16 + 16);
}

// Dynamic shared memory: the chunks; 8 rows of the query, the newest key and value; for each warp
// the greatest scores and the sums of its rows; a barrier; results of the other CTAs' warps.
constexpr int newest_shared_bytes(int head_size, int rows, int cluster) {
  return kNewestWarps * (2 * 16 * shared_row_bytes(head_size) + 4 * 16) +
         10 * shared_row_bytes(head_size) + 16 +
         (cluster - 1) * kNewestWarps * newest_result_bytes(head_size, rows);
}

// One CTA adds up partial results at about 0.07 microseconds each (8 rows of 128, H200). If there
// are more than this, groups of them are added up first, each by a different CTA.
constexpr int kMergedAtOnce = 32;
constexpr int kMergeGroup = 16;

constexpr int merge_groups(int splits) {
  return splits > kMergedAtOnce ? (splits + kMergeGroup - 1) / kMergeGroup : 0;
}

// How the prefill kernel for mma.sync divides its work.
struct PrefillShape {
  int warps;
  int strips;  // of 16 rows, per warp
  int keys;    // of a tile
  int blocks;  // CTAs that a multiprocessor has registers for

  constexpr int rows() const { return 16 * warps * strips; }
};
constexpr PrefillShape prefill_shape(int head_size) {
  if (head_size <= 128) return {4, 2, 64, 2};
  if (head_size <= 192) return {4, 2, 32, 2};
  return {4, 1, 64, 2};
}

// Dynamic shared memory: the query rows, a tile of keys and one of values.
constexpr int prefill_shared_bytes(int head_size) {
  const PrefillShape shape = prefill_shape(head_size);
  return (shape.rows() + 2 * shape.keys) * shared_row_bytes(head_size);
}

// CTAs of that kernel that fit on a multiprocessor.
constexpr int prefill_blocks_per_processor(int head_size, int processor_bytes) {
  return blocks_per_processor(prefill_shared_bytes(head_size), processor_bytes,
                              prefill_shape(head_size).blocks);
}

// The prefill kernel for wgmma (compute capability 9.0a): two warpgroups multiply 64 rows each, and
// one loads.
constexpr int kWgmmaThreads = 3 * 128;
constexpr int kWgmmaRows = 64;

// Bytes of a row of keys, values or queries that lie in one piece in shared memory: the widest
// swizzle that divides a row.
constexpr int wgmma_row_bytes(int head_size) {
  return head_size % 64 == 0 ? 128 : head_size % 32 == 0 ? 64 : 32;
}

// Keys of a tile: as many as leave registers for their scores beside the results.
constexpr int wgmma_keys(int head_size) { return head_size <= 128 ? 128 : 64; }

// Dynamic shared memory: the query rows of both warpgroups, then stages of a tile of keys and one
// of values each; a place on a boundary of 1024 bytes, and room for barriers.
constexpr int wgmma_shared_bytes(int head_size, int stages) {
  return 1024 + 2 * head_size * (2 * kWgmmaRows + 2 * stages * wgmma_keys(head_size)) + 256;
}
constexpr int wgmma_stages(int head_size) {
  int stages = 4;
  while (wgmma_shared_bytes(head_size, stages) > block_shared_bytes(90)) --stages;
  return stages;
}

}  // namespace vllm
