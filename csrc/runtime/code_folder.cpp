#include "runtime/code_folder.h"

#include <dirent.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "runtime/error.h"
#include "runtime/text.h"

namespace vllm::cuda {
namespace {

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder.c_str()), closedir);
  if (!dir) return names;
  while (const dirent* entry = readdir(dir.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The working directory when the library was loaded: the base of relative paths.
std::string current_folder() {
  char path[4096];
  return getcwd(path, sizeof path) == nullptr ? "." : path;
}
const std::string first_folder = current_folder();

// The folder of this library.
std::string library_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&library_folder), &info) == 0 || info.dli_fname == nullptr) {
    throw Error(ErrorKind::runtime, "the folder of vllm's own library cannot be found");
  }
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// Whether `a` is better than `b`, both of which the GPU can run.
bool better(const Arch& a, const Arch& b) {
  if (a.ptx != b.ptx) return b.ptx;
  const bool exact = a.scope == Scope::exact;
  if (exact != (b.scope == Scope::exact)) return exact;
  if (a.major != b.major) return a.major > b.major;
  if (a.minor != b.minor) return a.minor > b.minor;
  return a.scope == Scope::family;
}

bool runs_on(const Arch& arch, int major, int minor) {
  if (arch.ptx && arch.scope == Scope::later && arch.major < major) return true;
  if (arch.major != major) return false;
  return arch.scope == Scope::exact ? arch.minor == minor : arch.minor <= minor;
}

}  // namespace

bool parse_arch(const std::string& name, Arch& arch) {
  const bool ptx = name.compare(0, 8, "compute_") == 0;
  if (!ptx && name.compare(0, 3, "sm_") != 0) return false;
  std::string digits = name.substr(ptx ? 8 : 3);
  Scope scope = Scope::later;
  if (!digits.empty() && (digits.back() == 'a' || digits.back() == 'f')) {
    scope = digits.back() == 'a' ? Scope::exact : Scope::family;
    digits.pop_back();
  }
  if (digits.size() < 2 || digits.size() > 4) return false;
  if (digits.find_first_not_of("0123456789") != std::string::npos) return false;
  const int number = std::stoi(digits);
  arch = {name, number / 10, number % 10, ptx, scope};  // the last digit is the minor
  return true;
}

std::string code_folder() {
  const char* chosen = std::getenv("VLLM_KERNEL_DIR");
  if (chosen != nullptr && chosen[0] == '/') return chosen;
  if (chosen != nullptr && chosen[0] != '\0') return concat(first_folder, "/", chosen);
  const std::string kernels = library_folder() + "/kernels";
  const std::vector<std::string> variants = names_in(kernels);
  if (variants.empty()) {
    throw Error(ErrorKind::runtime,
                concat("this build of vllm has no GPU code: there is nothing in ", kernels,
                       ". Install a CUDA wheel, or build with VLLM_TARGET_DEVICE=cuda"));
  }
  if (variants.size() > 1) {
    throw Error(ErrorKind::runtime,
                concat(kernels, " holds the GPU code of several builds (", join(variants),
                       "), and cannot tell which is this one's. Uninstall vllm, remove that "
                       "folder, and install again"));
  }
  return kernels + "/" + variants[0];
}

std::vector<Arch> archs_in(const std::string& folder) {
  std::vector<Arch> archs;
  Arch arch;
  for (const std::string& name : names_in(folder)) {
    if (parse_arch(name, arch)) archs.push_back(arch);
  }
  return archs;
}

const Arch& select_arch(const std::vector<Arch>& archs, int major, int minor,
                        const std::string& gpu, const std::string& folder) {
  const Arch* best = nullptr;
  for (const Arch& arch : archs) {
    if (runs_on(arch, major, minor) && (best == nullptr || better(arch, *best))) best = &arch;
  }
  if (best != nullptr) return *best;
  std::vector<std::string> names;
  names.reserve(archs.size());
  for (const Arch& arch : archs) names.push_back(arch.name);
  const std::string newest = concat("sm_", major, minor);
  const std::string cubins = minor == 0 ? newest : concat("sm_", major, "0 to ", newest);
  throw Error(ErrorKind::runtime, concat("no GPU code for ", gpu, ": ", folder, " holds ",
                                         names.empty() ? "nothing" : join(names), "; it takes ",
                                         cubins, ", or PTX of compute capability ", major, ".",
                                         minor, " or lower (compute_XY)"));
}

}  // namespace vllm::cuda
