#include <algorithm>

#include "ops/common/launch.h"
#include "ops/norm/norm.h"
#include "ops/ops.h"
#include "params/comm.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr i64 kManyRows = 512;

struct AllReduceKernels {
  cuda::Kernel one_shot;
  cuda::Kernel two_shots;
};

AllReduceKernels sums[kFloatTypes] = {
    {{"all_reduce", "all_reduce_f32"}, {"all_reduce", "all_reduce_f32_two_shots"}},
    {{"all_reduce", "all_reduce_f16"}, {"all_reduce", "all_reduce_f16_two_shots"}},
    {{"all_reduce", "all_reduce_bf16"}, {"all_reduce", "all_reduce_bf16_two_shots"}},
};
AllReduceKernels sums_and_norms[kFloatTypes] = {
    {{"all_reduce", "all_reduce_add_rms_norm_f32"},
     {"all_reduce", "all_reduce_add_rms_norm_f32_two_shots"}},
    {{"all_reduce", "all_reduce_add_rms_norm_f16"},
     {"all_reduce", "all_reduce_add_rms_norm_f16_two_shots"}},
    {{"all_reduce", "all_reduce_add_rms_norm_bf16"},
     {"all_reduce", "all_reduce_add_rms_norm_bf16_two_shots"}},
};

[[noreturn]] void refuse_peers(const char* op, const std::string& problem) {
  throw Error(ErrorKind::value, concat(op, ": ", problem));
}

// Checks a group, and that these rows fit into its memory.
void fill_group(const char* op, AllReduceParams& params, const Tensor& input, const RowLayout& rows,
                const PeerGroup* given) {
  if (given == nullptr) refuse_peers(op, "argument 'addresses' is None; it takes a tensor");
  const PeerGroup& peers = *given;
  const Tensor& addresses = peers.addresses;
  require_dtype(op, addresses, DType::int64, ", addresses");
  require_ndim(op, addresses, 1, "[ranks]");
  require_contiguous_last(op, addresses);
  const i64 ranks = addresses.shape[0];
  if (addresses.device_type != DeviceType::cpu || ranks < 1 || ranks > kMostRanks) {
    refuse(ErrorKind::value, op, addresses, concat("has ", ranks, " elements"),
           concat("an address on the CPU for each of 1 to ", kMostRanks, " ranks"));
  }
  if (peers.rank < 0 || peers.rank >= ranks) {
    refuse_peers(op, concat("argument 'rank' is ", peers.rank, "; it takes 0 to ", ranks - 1));
  }
  if (peers.rows < 1 || peers.row_bytes < 1 || peers.row_bytes % kExchangeAlignment != 0) {
    refuse_peers(op, concat("the exchange has ", peers.rows, " rows of ", peers.row_bytes,
                            " bytes; it takes 1 or more, of a multiple of ", kExchangeAlignment));
  }
  for (i64 rank = 0; rank < ranks; ++rank) {
    params.memory[rank] = reinterpret_cast<char*>(static_cast<const i64*>(addresses.data)[rank]);
  }
  params.stop = reinterpret_cast<const unsigned*>(peers.stop);
  params.rank = static_cast<int>(peers.rank);
  params.layout = {peers.rows, peers.row_bytes, static_cast<int>(ranks)};

  if (input.device_type != DeviceType::cuda) {
    refuse(ErrorKind::value, op, input, "is on the CPU", "CUDA tensors");
  }
  const i64 row_bytes = rows.width * element_size(input.dtype);
  if (row_bytes % kExchangeAlignment != 0 || row_bytes > peers.row_bytes ||
      row_bytes > kMostRowPacks * kExchangeAlignment || rows.rows > peers.rows) {
    refuse(ErrorKind::value, op, input, concat("has ", rows.rows, " rows of ", row_bytes, " bytes"),
           concat("up to ", peers.rows, " rows of up to ",
                  std::min<i64>(peers.row_bytes, kMostRowPacks * kExchangeAlignment),
                  " bytes, a multiple of ", kExchangeAlignment));
  }
}

void require_packs(const char* op, const Tensor& tensor, i64 rows, i64 stride) {
  const i64 size = element_size(tensor.dtype);
  if (!packs_16_bytes(tensor.data, rows, stride, 0, size)) {
    refuse(ErrorKind::value, op, tensor, "has rows that do not start at multiples of 16 bytes",
           "rows that do");
  }
}

void run(AllReduceKernels (&of_dtypes)[kFloatTypes], const AllReduceParams& params,
         const Tensor& input, bool two_shots) {
  if (params.rows == 0 || params.width == 0) return;
  AllReduceKernels& kernels = of_dtypes[float_index(input.dtype)];
  const i64 packs = params.width * element_size(input.dtype) / kExchangeAlignment;
  // One row per multiprocessor with many threads has the lowest latency; several rows with fewer
  // threads each have the highest bandwidth (benchmarks/cuda_all_reduce.py).
  const bool many = params.rows >= kManyRows;
  const i64 held = many || packs > kMostBlockThreads ? kRowPacks : 1;
  const unsigned threads = block_threads((packs + held - 1) / held, kMostBlockThreads);
  // No more CTAs than run at once, or the kernel could deadlock. Every GPU has registers for
  // kMostBlockThreads.
  i64 at_once = many ? kMostBlockThreads / threads : 1;
  at_once *= cuda::device(input.device_index).processors;
  const auto blocks = static_cast<unsigned>(std::min(params.rows, at_once));
  run_on_cuda(two_shots ? kernels.two_shots : kernels.one_shot, early_grid(blocks, 1, threads),
              params, input);
}

}  // namespace

int64_t exchange_bytes(int64_t ranks, int64_t rows, int64_t row_bytes) {
  return ExchangeLayout{rows, row_bytes, static_cast<int>(ranks)}.bytes();
}

void all_reduce(const Tensor& out, const Tensor& input, bool two_shots, const PeerGroup* peers) {
  constexpr const char* kOp = "all_reduce";
  require_float(kOp, input);
  require_same_dtype(kOp, out, input);
  require_same_device(kOp, out, input);
  const RowLayout in_rows = require_rows(kOp, input);
  require_same_shape(kOp, out, input);
  const RowLayout out_rows = require_rows(kOp, out);
  require_writable(kOp, out);
  require_disjoint(kOp, out, input, Sharing::may_be_same);
  require_packs(kOp, input, in_rows.rows, in_rows.stride);
  require_packs(kOp, out, out_rows.rows, out_rows.stride);

  AllReduceParams params{};
  fill_group(kOp, params, input, in_rows, peers);
  params.out = out.data;
  params.input = input.data;
  params.rows = in_rows.rows;
  params.width = in_rows.width;
  params.out_stride = out_rows.stride;
  params.input_stride = in_rows.stride;
  run(sums, params, input, two_shots);
}

void all_reduce_add_rms_norm(const Tensor& input, const Tensor& residual, const Tensor& weight,
                             double epsilon, bool two_shots, const PeerGroup* peers) {
  constexpr const char* kOp = "all_reduce_add_rms_norm";
  const AddNormRows rows = require_add_norm(kOp, input, residual, weight);
  require_packs(kOp, input, rows.input.rows, rows.input.stride);
  require_packs(kOp, residual, rows.residual.rows, rows.residual.stride);
  require_packs(kOp, weight, 1, 0);

  AllReduceParams params{};
  fill_group(kOp, params, input, rows.input, peers);
  fill_add_norm(params, rows, input, residual, weight, require_epsilon(kOp, epsilon));
  run(sums_and_norms, params, input, two_shots);
}

}  // namespace vllm::ops
