// The Python module `vllm._C`, and nothing else: arguments in, exceptions out.
#include "cpu/kernels.h"
#include "ops/ops.h"
#include "runtime/code_folder.h"
#include "runtime/kernel.h"
#include "runtime/python_values.h"
#include "runtime/tensor_source.h"
#include "runtime/text.h"

namespace vllm {
namespace {

// The arguments of a call to `function`, which takes them by position.
class Arguments {
 public:
  Arguments(const char* function, PyObject* tuple, Py_ssize_t count, const char* names)
      : function_(function), tuple_(tuple) {
    const Py_ssize_t got = PyTuple_Size(tuple);
    if (got != count) {
      throw Error(ErrorKind::type, concat(function, " takes ", count, " arguments (", names,
                                          "), by position; got ", got));
    }
  }

  PyObject* object(Py_ssize_t index) const { return PyTuple_GetItem(tuple_, index); }
  Tensor tensor(Py_ssize_t index, const char* name) const {
    return read_tensor(function_, name, object(index));
  }
  double number(Py_ssize_t index, const char* name) const {
    return converted(index, name, to_number, "a number");
  }
  int64_t integer(Py_ssize_t index, const char* name) const {
    return converted(index, name, to_index, "an integer");
  }
  bool boolean(Py_ssize_t index, const char* name) const {
    return converted(index, name, to_bool, "true or false");
  }

 private:
  template <typename Value>
  Value converted(Py_ssize_t index, const char* name, Value (*convert)(PyObject*),
                  const char* takes) const {
    try {
      return convert(object(index));
    } catch (const PythonErrorSet&) {
      throw Error(ErrorKind::type, concat(function_, ": argument '", name, "' takes ", takes, ": ",
                                          take_python_error()));
    }
  }

  const char* function_;
  PyObject* tuple_;
};

PyObject* none() {
  Py_IncRef(py_none);
  return py_none;
}

PyObject* text(const std::string& value) {
  return checked(PyUnicode_FromString(value.c_str())).release();
}

PyObject* integer(long long value) { return checked(PyLong_FromLongLong(value)).release(); }

template <typename... Items>
PyObject* tuple(Items... new_references) {
  PyObject* items[] = {new_references...};
  Ref result = checked(PyTuple_New(sizeof...(Items)));
  for (size_t i = 0; i < sizeof...(Items); ++i) {
    PyTuple_SetItem(result.get(), static_cast<Py_ssize_t>(i), items[i]);
  }
  return result.release();
}

// A method of the module: calls body(args), and turns its exceptions into Python's.
template <PyObject* (*body)(PyObject* args)>
PyObject* method(PyObject*, PyObject* args) {
  try {
    return body(args);
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

PyObject* rms_norm(PyObject* tuple) {
  const Arguments args("rms_norm", tuple, 4, "out, input, weight, epsilon");
  const Tensor out = args.tensor(0, "out");
  const Tensor input = args.tensor(1, "input");
  const Tensor weight = args.tensor(2, "weight");
  ops::rms_norm(out, input, weight, args.number(3, "epsilon"));
  return none();
}

PyObject* fused_add_rms_norm(PyObject* tuple) {
  const Arguments args("fused_add_rms_norm", tuple, 4, "input, residual, weight, epsilon");
  const Tensor input = args.tensor(0, "input");
  const Tensor residual = args.tensor(1, "residual");
  const Tensor weight = args.tensor(2, "weight");
  ops::fused_add_rms_norm(input, residual, weight, args.number(3, "epsilon"));
  return none();
}

PyObject* silu_and_mul(PyObject* tuple) {
  const Arguments args("silu_and_mul", tuple, 2, "out, input");
  const Tensor out = args.tensor(0, "out");
  const Tensor input = args.tensor(1, "input");
  ops::silu_and_mul(out, input);
  return none();
}

PyObject* rotary_embedding(PyObject* tuple) {
  const Arguments args("rotary_embedding", tuple, 6,
                       "positions, query, key, head_size, cos_sin_cache, is_neox");
  const Tensor positions = args.tensor(0, "positions");
  const Tensor query = args.tensor(1, "query");
  const bool has_key = args.object(2) != py_none;
  const Tensor key = has_key ? args.tensor(2, "key") : Tensor{};
  const Tensor cos_sin_cache = args.tensor(4, "cos_sin_cache");
  ops::rotary_embedding(positions, query, has_key ? &key : nullptr, args.integer(3, "head_size"),
                        cos_sin_cache, args.boolean(5, "is_neox"));
  return none();
}

PyObject* rotary_and_cache(PyObject* tuple) {
  const Arguments args("rotary_and_cache", tuple, 11,
                       "positions, query, key, value, cos_sin_cache, key_cache, value_cache, "
                       "slot_mapping, query_weight, key_weight, epsilon");
  const Tensor positions = args.tensor(0, "positions");
  const Tensor query = args.tensor(1, "query");
  const Tensor key = args.tensor(2, "key");
  const Tensor value = args.tensor(3, "value");
  const Tensor cos_sin_cache = args.tensor(4, "cos_sin_cache");
  const Tensor key_cache = args.tensor(5, "key_cache");
  const Tensor value_cache = args.tensor(6, "value_cache");
  const Tensor slot_mapping = args.tensor(7, "slot_mapping");
  const bool norms_query = args.object(8) != py_none, norms_key = args.object(9) != py_none;
  const Tensor query_weight = norms_query ? args.tensor(8, "query_weight") : Tensor{};
  const Tensor key_weight = norms_key ? args.tensor(9, "key_weight") : Tensor{};
  ops::rotary_and_cache(positions, query, key, value, cos_sin_cache, key_cache, value_cache,
                        slot_mapping, norms_query ? &query_weight : nullptr,
                        norms_key ? &key_weight : nullptr, args.number(10, "epsilon"));
  return none();
}

PyObject* reshape_and_cache(PyObject* tuple) {
  const Arguments args("reshape_and_cache", tuple, 5,
                       "key, value, key_cache, value_cache, slot_mapping");
  const Tensor key = args.tensor(0, "key");
  const Tensor value = args.tensor(1, "value");
  const Tensor key_cache = args.tensor(2, "key_cache");
  const Tensor value_cache = args.tensor(3, "value_cache");
  const Tensor slot_mapping = args.tensor(4, "slot_mapping");
  ops::reshape_and_cache(key, value, key_cache, value_cache, slot_mapping);
  return none();
}

PyObject* embedding(PyObject* tuple) {
  const Arguments args("embedding", tuple, 3, "out, ids, table");
  const Tensor out = args.tensor(0, "out");
  const Tensor ids = args.tensor(1, "ids");
  const Tensor table = args.tensor(2, "table");
  ops::embedding(out, ids, table);
  return none();
}

PyObject* paged_attention(PyObject* tuple) {
  const Arguments args("paged_attention", tuple, 17,
                       "out, query, key_cache, value_cache, block_tables, context_lens, "
                       "query_starts, scale, sliding_window, soft_cap, items, arrivals, partials, "
                       "decode_blocks, prefill_first, prefill_tiles, settled");
  const Tensor out = args.tensor(0, "out");
  const Tensor query = args.tensor(1, "query");
  const Tensor key_cache = args.tensor(2, "key_cache");
  const Tensor value_cache = args.tensor(3, "value_cache");
  const Tensor block_tables = args.tensor(4, "block_tables");
  const Tensor context_lens = args.tensor(5, "context_lens");
  const Tensor query_starts = args.tensor(6, "query_starts");
  ops::AttentionPlan plan{};
  const bool planned = args.object(10) != py_none;
  if (planned) {
    plan = {args.tensor(10, "items"),          args.tensor(11, "arrivals"),
            args.tensor(12, "partials"),       args.integer(13, "decode_blocks"),
            args.integer(14, "prefill_first"), args.integer(15, "prefill_tiles"),
            args.boolean(16, "settled")};
  }
  ops::paged_attention(out, query, key_cache, value_cache, block_tables, context_lens, query_starts,
                       args.number(7, "scale"), args.integer(8, "sliding_window"),
                       args.number(9, "soft_cap"), planned ? &plan : nullptr);
  return none();
}

PyObject* plan_attention(PyObject* args_tuple) {
  const Arguments args("plan_attention", args_tuple, 7,
                       "items, context_lens, query_starts, heads, kv_heads, sliding_window, "
                       "blocks");
  const Tensor items = args.tensor(0, "items");
  const Tensor context_lens = args.tensor(1, "context_lens");
  const Tensor query_starts = args.tensor(2, "query_starts");
  const ops::AttentionPlanCounts counts = ops::plan_attention(
      items, context_lens, query_starts, args.integer(3, "heads"), args.integer(4, "kv_heads"),
      args.integer(5, "sliding_window"), args.integer(6, "blocks"));
  return tuple(integer(counts.decode_blocks), integer(counts.prefill_first),
               integer(counts.prefill_tiles), integer(counts.items));
}

PyObject* penalize(PyObject* tuple) {
  const Arguments args("penalize", tuple, 5, "logits, rows, tokens, repetition, subtract");
  const Tensor logits = args.tensor(0, "logits");
  const Tensor rows = args.tensor(1, "rows");
  const Tensor tokens = args.tensor(2, "tokens");
  const Tensor repetition = args.tensor(3, "repetition");
  const Tensor subtract = args.tensor(4, "subtract");
  ops::penalize(logits, rows, tokens, repetition, subtract);
  return none();
}

PyObject* sample(PyObject* tuple) {
  const Arguments args("sample", tuple, 9,
                       "out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace");
  const char* names[] = {"temperatures", "top_k", "top_p", "min_p", "seeds", "draws", "workspace"};
  const Tensor out = args.tensor(0, "out");
  const Tensor logits = args.tensor(1, "logits");
  Tensor tensors[7];
  const Tensor* given[7] = {};
  for (Py_ssize_t i = 0; i < 7; ++i) {
    if (args.object(i + 2) == py_none) continue;
    tensors[i] = args.tensor(i + 2, names[i]);
    given[i] = &tensors[i];
  }
  ops::sample(out, logits, {given[0], given[1], given[2], given[3], given[4], given[5], given[6]});
  return none();
}

PyObject* sample_workspace_size(PyObject* tuple) {
  const Arguments args("sample_workspace_size", tuple, 2, "rows, vocab");
  return integer(ops::sample_workspace_size(args.integer(0, "rows"), args.integer(1, "vocab")));
}

PyObject* cpu_isa(PyObject* tuple) {
  const Arguments args("cpu_isa", tuple, 0, "");
  return text(cpu::kernels().isa);
}

PyObject* cpu_threads(PyObject* tuple) {
  const Arguments args("cpu_threads", tuple, 0, "");
  return integer(cpu::num_threads());
}

PyObject* driver_version(PyObject* tuple) {
  const Arguments args("driver_version", tuple, 0, "");
  return integer(cuda::driver_version());
}

PyObject* devices(PyObject* args_tuple) {
  const Arguments args("devices", args_tuple, 0, "");
  Ref list = checked(PyList_New(0));
  for (const cuda::Device& device : cuda::devices()) {
    const Ref entry(tuple(text(device.name), integer(device.major), integer(device.minor)));
    if (PyList_Append(list.get(), entry.get()) != 0) throw PythonErrorSet{};
  }
  return list.release();
}

PyObject* code_folder(PyObject* tuple) {
  const Arguments args("code_folder", tuple, 0, "");
  return text(cuda::code_folder());
}

PyObject* select_code(PyObject* tuple) {
  const Arguments args("select_code", tuple, 2, "major, minor");
  const int major = static_cast<int>(args.integer(0, "major"));
  const int minor = static_cast<int>(args.integer(1, "minor"));
  const std::string folder = cuda::code_folder();
  const std::vector<cuda::Arch> archs = cuda::archs_in(folder);
  const std::string gpu = concat("compute capability ", major, ".", minor);
  return text(cuda::select_arch(archs, major, minor, gpu, folder).name);
}

PyObject* loaded_kernels(PyObject* args_tuple) {
  const Arguments args("loaded_kernels", args_tuple, 0, "");
  Ref list = checked(PyList_New(0));
  for (const cuda::LoadedFile& file : cuda::loaded_files()) {
    const Ref entry(tuple(integer(file.device), text(file.path)));
    if (PyList_Append(list.get(), entry.get()) != 0) throw PythonErrorSet{};
  }
  return list.release();
}

PyObject* use_torch_attributes(PyObject* tuple) {
  const Arguments args("use_torch_attributes", tuple, 1, "only");
  vllm::use_torch_attributes(args.boolean(0, "only"));
  return none();
}

PyMethodDef methods[] = {
    {"rms_norm", method<rms_norm>, METH_VARARGS,
     "rms_norm(out, input, weight, epsilon)\n\nSee vllm.ops.rms_norm."},
    {"fused_add_rms_norm", method<fused_add_rms_norm>, METH_VARARGS,
     "fused_add_rms_norm(input, residual, weight, epsilon)\n\nSee vllm.ops.fused_add_rms_norm."},
    {"silu_and_mul", method<silu_and_mul>, METH_VARARGS,
     "silu_and_mul(out, input)\n\nSee vllm.ops.silu_and_mul."},
    {"rotary_embedding", method<rotary_embedding>, METH_VARARGS,
     "rotary_embedding(positions, query, key, head_size, cos_sin_cache, is_neox)\n\n"
     "See vllm.ops.rotary_embedding."},
    {"rotary_and_cache", method<rotary_and_cache>, METH_VARARGS,
     "rotary_and_cache(positions, query, key, value, cos_sin_cache, key_cache, value_cache, "
     "slot_mapping, query_weight, key_weight, epsilon)\n\nSee vllm.ops.rotary_and_cache."},
    {"reshape_and_cache", method<reshape_and_cache>, METH_VARARGS,
     "reshape_and_cache(key, value, key_cache, value_cache, slot_mapping)\n\n"
     "See vllm.ops.reshape_and_cache."},
    {"embedding", method<embedding>, METH_VARARGS,
     "embedding(out, ids, table)\n\nSee vllm.ops.embedding."},
    {"paged_attention", method<paged_attention>, METH_VARARGS,
     "paged_attention(out, query, key_cache, value_cache, block_tables, context_lens, "
     "query_starts, scale, sliding_window, soft_cap, items, arrivals, partials, decode_blocks, "
     "prefill_first, prefill_tiles, settled)\n\nSee vllm.ops.paged_attention."},
    {"plan_attention", method<plan_attention>, METH_VARARGS,
     "plan_attention(items, context_lens, query_starts, heads, kv_heads, sliding_window, blocks)"
     "\n\n-> (decode_blocks, prefill_first, prefill_tiles, items). See vllm.ops.plan_attention."},
    {"penalize", method<penalize>, METH_VARARGS,
     "penalize(logits, rows, tokens, repetition, subtract)\n\nSee vllm.ops.penalize."},
    {"sample", method<sample>, METH_VARARGS,
     "sample(out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace)\n\n"
     "See vllm.ops.sample."},
    {"sample_workspace_size", method<sample_workspace_size>, METH_VARARGS,
     "sample_workspace_size(rows, vocab)\n\nSee vllm.ops.sample_workspace_size."},
    {"cpu_isa", method<cpu_isa>, METH_VARARGS,
     "The instruction set that the CPU kernels use: 'baseline', 'avx2' or 'avx512'."},
    {"cpu_threads", method<cpu_threads>, METH_VARARGS, "Threads that a CPU op may use."},
    {"driver_version", method<driver_version>, METH_VARARGS,
     "The newest CUDA that the NVIDIA driver supports, as 12040 for 12.4. RuntimeError where there "
     "is no driver."},
    {"devices", method<devices>, METH_VARARGS,
     "[(name, major, minor)] of the GPUs that this process may use. Initializes the driver, makes "
     "no context. RuntimeError where there is no driver, or no GPU."},
    {"code_folder", method<code_folder>, METH_VARARGS,
     "The folder of this build's GPU code: VLLM_KERNEL_DIR, or the one under vllm/kernels/. "
     "RuntimeError for a build that has none."},
    {"select_code", method<select_code>, METH_VARARGS,
     "select_code(major, minor)\n\nThe architecture, such as 'sm_90a' or 'compute_90', whose code "
     "a "
     "GPU of that compute capability would run. Needs no GPU. RuntimeError where none fits."},
    {"loaded_kernels", method<loaded_kernels>, METH_VARARGS,
     "[(device index, path)] of the files of GPU code that were really loaded, in that order."},
    {"use_torch_attributes", method<use_torch_attributes>, METH_VARARGS,
     "use_torch_attributes(only)\n\nRead torch tensors by their attributes even where torch has a "
     "DLPack exchange table. For tests and measurements."},
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
