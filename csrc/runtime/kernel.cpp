#include "runtime/kernel.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>

#include "runtime/error.h"
#include "runtime/text.h"

namespace vllm::cuda {
namespace {

constexpr int kJitErrorLog = 5;                 // CU_JIT_ERROR_LOG_BUFFER
constexpr int kJitErrorLogSize = 6;             // CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
constexpr int kMaxDynamicShared = 8;            // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr unsigned kDefaultShared = 48 * 1024;  // the default maximum of a CTA

constexpr int kCluster = 4;            // CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
constexpr int kEarly = 6;              // ..._PROGRAMMATIC_STREAM_SERIALIZATION
constexpr int kEarlyInGraphs = 12030;  // the first driver that also captures it

struct LoadedModule {
  int device;
  std::string file;
  std::string path;
  Module module;
};

// Guards the following. It is never held while Python code runs.
std::mutex mutex;

std::vector<LoadedModule>& modules() {
  static auto& loaded = *new std::vector<LoadedModule>;
  return loaded;
}

[[noreturn]] void fail_to_read(const std::string& path) {
  throw Error(ErrorKind::runtime,
              concat(path,
                     " is missing or cannot be read: this installation of vllm is incomplete. "
                     "Install it again: pip install --force-reinstall --no-deps URL"));
}

std::string read_file(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) fail_to_read(path);
  std::string bytes;
  char part[65536];
  size_t size;
  do {
    size = std::fread(part, 1, sizeof part, file.get());
    bytes.append(part, size);
  } while (size == sizeof part);
  if (std::ferror(file.get()) != 0) fail_to_read(path);
  return bytes;
}

template <typename T>
uint64_t field(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Refuses a truncated cubin, in which the tables of its ELF header are missing: the driver would
// read beyond its end and crash. The tables are last in a cubin, so every truncation is detected.
// Offsets: ELF-64.
void require_whole(const std::string& image, const std::string& path) {
  constexpr size_t kHeader = 64;
  if (image.compare(0, 4,
                    "\x7f"
                    "ELF") != 0) {
    return;  // PTX, or something that the driver itself refuses
  }
  uint64_t end = kHeader;
  if (image.size() >= kHeader) {
    const uint64_t segments = field<uint64_t>(image, 32);  // e_phoff, e_phentsize, e_phnum
    const uint64_t sections = field<uint64_t>(image, 40);  // e_shoff, e_shentsize, e_shnum
    end = std::max(segments + field<uint16_t>(image, 54) * field<uint16_t>(image, 56),
                   sections + field<uint16_t>(image, 58) * field<uint16_t>(image, 60));
  }
  if (image.size() < end) {
    throw Error(ErrorKind::runtime,
                concat(path, " is cut off: it has ", image.size(), " bytes and needs ", end,
                       ". Install vllm again: pip install --force-reinstall --no-deps URL"));
  }
}

// The driver version needed for refused code: a cubin needs a driver that supports the GPU, PTX one
// at least as new as its compiler.
std::string needed_driver(const std::string& image, const Arch& arch, const Device& gpu) {
  if (arch.ptx) {
    const size_t version = image.find("\n.version ");
    const size_t end = image.find('\n', version + 1);
    if (version == std::string::npos || end == std::string::npos) return "";
    return concat(". It is PTX of version ", image.substr(version + 10, end - version - 10),
                  ": a driver takes what compilers of its own CUDA version and older ones write. "
                  "Update the driver, or install a wheel with code for this GPU");
  }
  struct First {
    int major, minor;
    const char* cuda;
  };
  // From the release notes of CUDA: the version whose driver was the first for a GPU.
  constexpr First firsts[] = {{12, 1, "12.9"}, {12, 0, "12.8"}, {11, 0, "13.0"}, {10, 3, "12.9"},
                              {10, 0, "12.8"}, {8, 9, "11.8"},  {8, 7, "11.4"},  {8, 6, "11.1"}};
  const char* cuda = "11.0";
  for (const First& first : firsts) {
    if (gpu.major > first.major || (gpu.major == first.major && gpu.minor >= first.minor)) {
      cuda = first.cuda;
      break;
    }
  }
  return concat(". This GPU needs a driver of CUDA ", cuda,
                " or newer: update it, or, where it is, ",
                "install vllm again: pip install --force-reinstall --no-deps URL");
}

// `image` ends with a NUL, as PTX must.
Module load_image(const std::string& image, const std::string& where, const std::string& needed) {
  char log[4096] = "";
  int keys[] = {kJitErrorLog, kJitErrorLogSize};
  void* values[] = {log, reinterpret_cast<void*>(uintptr_t{sizeof log})};
  Module module = nullptr;
  const Result result = driver().cuModuleLoadDataEx(&module, image.c_str(), 2, keys, values);
  if (result != 0) {
    fail(result, "cuModuleLoadDataEx", concat(where, log[0] == '\0' ? "" : ": ", log, needed));
  }
  return module;
}

// The context of `device` is current and `mutex` is held.
const LoadedModule& load_file(int index, const std::string& file) {
  for (const LoadedModule& loaded : modules()) {
    if (loaded.device == index && loaded.file == file) return loaded;
  }
  const Arch& arch = code_arch(index);
  const std::string path =
      concat(code_folder(), "/", arch.name, "/", file, arch.ptx ? ".ptx" : ".cubin");
  const std::string image = read_file(path);
  require_whole(image, path);
  const Device& gpu = device(index);
  const Module module =
      load_image(image, concat(": ", path, " on ", describe(gpu)), needed_driver(image, arch, gpu));
  modules().push_back({index, file, path, module});
  return modules().back();
}

// PDL needs compute capability 9.0, as clusters do.
bool can_launch_early(int index) {
  static const int version = driver_version();
  return version >= kEarlyInGraphs && has_clusters(index);
}

}  // namespace

const Arch& code_arch(int index) {
  static std::atomic<const Arch*> found[kMaxDevices];
  const Device& gpu = device(index);
  const Arch* arch = found[index].load(std::memory_order_acquire);
  if (arch == nullptr) {  // two threads may both search: they find the same
    const std::string folder = code_folder();
    arch = new Arch(select_arch(archs_in(folder), gpu.major, gpu.minor, describe(gpu), folder));
    found[index].store(arch, std::memory_order_release);
  }
  return *arch;
}

bool has_clusters(int index) {
  return driver().cuLaunchKernelEx != nullptr && code_arch(index).major >= 9;
}

Function Kernel::load(int device_index, unsigned shared) {
  std::lock_guard<std::mutex> lock(mutex);
  // The first call of an op may be inside a CUDA graph capture.
  RelaxedCapture relaxed;
  const Device& gpu = device(device_index);
  if (shared > static_cast<unsigned>(gpu.block_shared_bytes)) {
    // For a launcher that sizes CTAs by the architecture of the code, not by the GPU.
    throw Error(
        ErrorKind::runtime,
        concat("kernel ", name_, " of ", file_, ", compiled as ", code_arch(device_index).name,
               ", needs ", shared, " bytes of shared memory per thread block; ", describe(gpu),
               " has ", gpu.block_shared_bytes, ". This is a fault of vllm: please report it"));
  }
  const LoadedModule& loaded = load_file(device_index, file_);
  Function function = nullptr;
  const Result result = driver().cuModuleGetFunction(&function, loaded.module, name_);
  if (result != 0) {
    fail(result, "cuModuleGetFunction", concat(": kernel ", name_, " of ", loaded.path));
  }
  if (shared > kDefaultShared) {
    check(driver().cuFuncSetAttribute(function, kMaxDynamicShared, static_cast<int>(shared)),
          "cuFuncSetAttribute");
  }
  return function;
}

void Kernel::launch_with(int device_index, Stream stream, const Grid& grid, void** arguments) {
  std::atomic<Function>& cached = functions_[device_index];
  Function function = cached.load(std::memory_order_acquire);
  if (function == nullptr) {
    function = load(device_index, std::max(grid.shared, grid.most_shared));
    cached.store(function, std::memory_order_release);
  }
  LaunchAttribute attributes[2];
  unsigned count = 0;
  if (grid.early && can_launch_early(device_index)) attributes[count++] = {kEarly, 0, {1}};
  if (grid.cluster > 1) attributes[count++] = {kCluster, 0, {static_cast<int>(grid.cluster), 1, 1}};
  const LaunchConfig config{grid.x, grid.y,      1,      grid.threads, 1,
                            1,      grid.shared, stream, attributes,   count};
  const Result result = count > 0
                            ? driver().cuLaunchKernelEx(&config, function, arguments, nullptr)
                            : driver().cuLaunchKernel(function, grid.x, grid.y, 1, grid.threads, 1,
                                                      1, grid.shared, stream, arguments, nullptr);
  if (result != 0) {
    fail(result, "cuLaunchKernel",
         concat(": kernel ", name_, " of ", file_, ", grid ", grid.x, " x ", grid.y, ", ",
                grid.threads, " threads, clusters of ", grid.cluster, ", ", grid.shared,
                " bytes of shared memory, on ", describe(device(device_index))));
  }
}

std::vector<LoadedFile> loaded_files() {
  std::lock_guard<std::mutex> lock(mutex);
  std::vector<LoadedFile> files;
  for (const LoadedModule& loaded : modules()) files.push_back({loaded.device, loaded.path});
  return files;
}

}  // namespace vllm::cuda
