// The Python module `vllm._C`, and nothing else: its functions by name.
#include "cpu/kernels.h"
#include "ops/ops.h"
#include "runtime/bind.h"
#include "runtime/code_folder.h"
#include "runtime/kernel.h"
#include "runtime/peer_memory.h"

namespace vllm {

template <>
constexpr auto members_of<ops::AttentionPlan> =
    std::make_tuple(&ops::AttentionPlan::items, &ops::AttentionPlan::arrivals,
                    &ops::AttentionPlan::partials, &ops::AttentionPlan::decode_blocks,
                    &ops::AttentionPlan::prefill_first, &ops::AttentionPlan::prefill_tiles,
                    &ops::AttentionPlan::metadata_ready, &ops::AttentionPlan::cluster);
template <>
constexpr auto members_of<ops::AttentionPlanSizes> =
    std::make_tuple(&ops::AttentionPlanSizes::items, &ops::AttentionPlanSizes::item_ints,
                    &ops::AttentionPlanSizes::arrivals, &ops::AttentionPlanSizes::partials,
                    &ops::AttentionPlanSizes::prefill_tiles);
template <>
constexpr auto members_of<ops::AttentionPlanCounts> = std::make_tuple(
    &ops::AttentionPlanCounts::decode_blocks, &ops::AttentionPlanCounts::prefill_first,
    &ops::AttentionPlanCounts::prefill_tiles, &ops::AttentionPlanCounts::items,
    &ops::AttentionPlanCounts::cluster);
template <>
constexpr auto members_of<ops::PeerGroup> =
    std::make_tuple(&ops::PeerGroup::addresses, &ops::PeerGroup::rank, &ops::PeerGroup::rows,
                    &ops::PeerGroup::row_bytes, &ops::PeerGroup::stop);
template <>
constexpr auto members_of<cuda::Device> =
    std::make_tuple(&cuda::Device::name, &cuda::Device::major, &cuda::Device::minor);
template <>
constexpr auto members_of<cuda::LoadedFile> =
    std::make_tuple(&cuda::LoadedFile::device, &cuda::LoadedFile::path);

namespace {

std::string cpu_isa() { return cpu::kernels().isa; }

std::string select_code(int64_t major, int64_t minor) {
  const std::string folder = cuda::code_folder();
  const std::string gpu = concat("compute capability ", major, ".", minor);
  return cuda::select_arch(cuda::archs_in(folder), static_cast<int>(major), static_cast<int>(minor),
                           gpu, folder)
      .name;
}

// A function that vllm.ops wraps and documents.
template <auto function, typename... Names>
PyMethodDef op(const char* name, Names... names) {
  return bind<function>(name, concat("See vllm.ops.", name, "."), names...);
}

PyMethodDef methods[] = {
    op<ops::rms_norm>("rms_norm", "out", "input", "weight", "epsilon"),
    op<ops::fused_add_rms_norm>("fused_add_rms_norm", "input", "residual", "weight", "epsilon"),
    op<ops::silu_and_mul>("silu_and_mul", "out", "input"),
    op<ops::few_rows_linear>("few_rows_linear", "out", "x", "weight", "bias", "norm_weight",
                             "epsilon", "gated", "residual"),
    op<ops::rotary_embedding>("rotary_embedding", "positions", "query", "key", "head_size",
                              "cos_sin_cache", "is_neox"),
    op<ops::rotary_and_cache>("rotary_and_cache", "positions", "query", "key", "value",
                              "cos_sin_cache", "key_cache", "value_cache", "slot_mapping",
                              "query_weight", "key_weight", "epsilon", "metadata_ready"),
    op<ops::reshape_and_cache>("reshape_and_cache", "key", "value", "key_cache", "value_cache",
                               "slot_mapping"),
    op<ops::embedding>("embedding", "out", "ids", "table"),
    op<ops::paged_attention>("paged_attention", "out", "query", "key_cache", "value_cache",
                             "block_tables", "context_lens", "query_starts", "scale",
                             "sliding_window", "soft_cap", "sinks", "key_scale", "value_scale",
                             "items", "arrivals", "partials", "decode_blocks", "prefill_first",
                             "prefill_tiles", "metadata_ready", "cluster"),
    op<ops::rotary_and_attention>(
        "rotary_and_attention", "out", "positions", "query", "key", "value", "cos_sin_cache",
        "key_cache", "value_cache", "slot_mapping", "block_tables", "context_lens", "query_starts",
        "scale", "sliding_window", "soft_cap", "query_weight", "key_weight", "epsilon", "items",
        "arrivals", "partials", "decode_blocks", "prefill_first", "prefill_tiles", "metadata_ready",
        "cluster"),
    op<ops::attention_cluster>("attention_cluster", "sequences", "heads", "kv_heads", "head_size",
                               "blocks", "device"),
    op<ops::keys_are_ready>("keys_are_ready", "context_lens", "query_starts", "block_tables",
                            "block_size"),
    op<ops::attention_blocks>("attention_blocks", "head_size", "device"),
    op<ops::prefill_blocks>("prefill_blocks", "head_size", "device"),
    op<ops::attention_plan_sizes>("attention_plan_sizes", "tokens", "sequences", "heads",
                                  "kv_heads", "head_size", "blocks"),
    op<ops::plan_attention>("plan_attention", "items", "context_lens", "query_starts", "heads",
                            "kv_heads", "sliding_window", "blocks", "prefill_blocks",
                            "block_tables", "block_size", "cluster", "few_items"),
    op<ops::few_prefill_items>("few_prefill_items", "kv_heads", "head_size", "device"),
    op<ops::attention_shares>("attention_shares", "head_size", "block_size", "device"),
    op<ops::copy_pinned>("copy_pinned", "out", "input"),
    op<ops::wait_for_host>("wait_for_host", "gate", "due", "nanoseconds"),
    op<ops::tell_device>("tell_device", "gate", "value"),
    op<ops::count_tokens>("count_tokens", "seen", "uses", "counters", "starts", "tokens", "counts"),
    op<ops::penalize>("penalize", "logits", "inputs", "counters", "counts", "repetition",
                      "presence", "frequency", "seen", "uses"),
    op<ops::bias_logits>("bias_logits", "logits", "rows", "tokens", "amounts", "after", "inputs"),
    op<ops::mask_logits>("mask_logits", "logits", "rows", "bits"),
    op<ops::sample>("sample", "out", "logits", "temperatures", "top_k", "top_p", "min_p", "seeds",
                    "draws", "workspace"),
    op<ops::sample_workspace_size>("sample_workspace_size", "rows", "vocab"),
    op<ops::exchange_bytes>("exchange_bytes", "ranks", "rows", "row_bytes"),
    op<ops::all_reduce>("all_reduce", "out", "input", "two_shots", "addresses", "rank", "rows",
                        "row_bytes", "stop"),
    op<ops::all_reduce_add_rms_norm>("all_reduce_add_rms_norm", "input", "residual", "weight",
                                     "epsilon", "two_shots", "addresses", "rank", "rows",
                                     "row_bytes", "stop"),
    bind<cuda::allocate_peer_memory>(
        "allocate_peer_memory",
        "The address of new memory of a GPU for other processes: `zeros` bytes of 0, then 255s.",
        "device", "bytes", "zeros"),
    bind<cuda::free_peer_memory>("free_peer_memory", "Frees what allocate_peer_memory gave.",
                                 "device", "address"),
    bind<cuda::peer_memory_handle>("peer_memory_handle",
                                   "Writes the handle of such memory to an int64 [8].", "device",
                                   "address", "handle"),
    bind<cuda::open_peer_memory>(
        "open_peer_memory",
        "The address, for kernels of a device, of memory that another process has allocated. "
        "RuntimeError where they do not reach each other.",
        "device", "handle"),
    bind<cuda::close_peer_memory>("close_peer_memory", "Gives up what open_peer_memory gave.",
                                  "device", "address"),
    bind<cpu_isa>(
        "cpu_isa",
        "The instruction set that the CPU kernels use: 'baseline', 'avx2' or 'avx512'; on Arm "
        "'neon' or 'bf16'."),
    bind<cpu::num_threads>("cpu_threads", "Threads that a CPU op may use."),
    bind<cuda::driver_version>(
        "driver_version",
        "The newest CUDA that the NVIDIA driver supports, as 12040 for 12.4. RuntimeError where "
        "there is no driver."),
    bind<cuda::devices>(
        "devices",
        "[(name, major, minor)] of the GPUs that this process may use. Initializes the driver, "
        "makes no context. RuntimeError where there is no driver, or no GPU."),
    bind<cuda::code_folder>(
        "code_folder",
        "The folder of this build's GPU code: VLLM_KERNEL_DIR, or the one under vllm/kernels/. "
        "RuntimeError for a build that has none."),
    bind<select_code>(
        "select_code",
        "The architecture, such as 'sm_90a' or 'compute_90', whose code a GPU of that compute "
        "capability would run. Needs no GPU. RuntimeError where none fits.",
        "major", "minor"),
    bind<cuda::loaded_files>(
        "loaded_kernels",
        "[(device index, path)] of the files of GPU code that were really loaded, in that order."),
    bind<use_torch_attributes>(
        "use_torch_attributes",
        "Read torch tensors by their attributes even where torch has a DLPack exchange table. For "
        "tests and measurements.",
        "only"),
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    {1, nullptr, nullptr, 0, nullptr},
    "vllm._C",
    "The native part of vllm: CPU kernels, and launchers of the CUDA kernels beside it.",
    -1,  // state is global: not for several interpreters
    methods,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace
}  // namespace vllm

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
  return PyModule_Create2(&vllm::definition, PYTHON_ABI_VERSION);
}
