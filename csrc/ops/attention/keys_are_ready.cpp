#include <algorithm>
#include <vector>

#include "ops/common/checks.h"
#include "ops/ops.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "keys_are_ready";

// The KV block that a sequence's newest key is written to, and its place in the block table.
struct Newest {
  i64 place;
  int block;

  bool operator<(const Newest& other) const {
    return place != other.place ? place < other.place : block < other.block;
  }
};

}  // namespace

bool keys_are_ready(const Tensor& context_lens, const Tensor& query_starts,
                    const Tensor& block_tables, int64_t block_size) {
  for (const Tensor* tensor : {&context_lens, &query_starts, &block_tables}) {
    require_dtype(kOp, *tensor, DType::int32, "");
    require_contiguous_last(kOp, *tensor);
    if (tensor->device_type != DeviceType::cpu) {
      refuse(ErrorKind::value, kOp, *tensor, concat("is on cuda:", tensor->device_index),
             "a tensor on the CPU");
    }
  }
  require_ndim(kOp, block_tables, 2, "(sequences, KV blocks)");
  const i64 sequences = block_tables.shape[0];
  require_vector(kOp, context_lens, sequences, "the rows of 'block_tables'");
  require_vector(kOp, query_starts, sequences + 1, "one more than the rows of 'block_tables'");
  if (block_size < 1) {
    throw Error(ErrorKind::value, concat(kOp, ": argument 'block_size' is ", block_size,
                                         "; it takes the tokens of a KV block, 1 or more"));
  }
  const int* lens = static_cast<const int*>(context_lens.data);
  const int* starts = static_cast<const int*>(query_starts.data);
  const int* tables = static_cast<const int*>(block_tables.data);
  const i64 stride = block_tables.strides[0], width = block_tables.shape[1];

  std::vector<Newest> full;  // a block that is not full yet has one reader
  for (i64 i = 0; i < sequences; ++i) {
    if (starts[i + 1] - starts[i] > 1) return false;
    if (starts[i + 1] == starts[i] || lens[i] < 1 || lens[i] % block_size != 0) continue;
    const i64 place = lens[i] / block_size - 1;
    if (place < width) full.push_back({place, tables[i * stride + place]});
  }
  std::sort(full.begin(), full.end());
  for (auto begin = full.begin(); begin != full.end();) {
    const i64 place = begin->place;
    const auto end =
        std::find_if(begin, full.end(), [&](const Newest& each) { return each.place != place; });
    i64 readers = 0;
    for (i64 i = 0; i < sequences && place < width; ++i) {
      if (starts[i + 1] == starts[i] || lens[i] <= place * block_size) continue;
      readers += std::binary_search(begin, end, Newest{place, tables[i * stride + place]}) ? 1 : 0;
    }
    if (readers > end - begin) return false;  // a reader that is not the writer
    begin = end;
  }
  return true;
}

}  // namespace vllm::ops
