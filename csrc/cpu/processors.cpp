#include "cpu/processors.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace vllm::cpu {
namespace {

constexpr size_t npos = std::string::npos;

// Not CPU_COUNT: it came with glibc 2.6. The kernel refuses a mask shorter than its own.
int affinity() {
  std::vector<unsigned long> mask(1024 / (8 * sizeof(unsigned long)));
  while (sched_getaffinity(0, mask.size() * sizeof(mask[0]),
                           reinterpret_cast<cpu_set_t*>(mask.data())) != 0) {
    if (errno != EINVAL || mask.size() > 65536) return 1;
    mask.resize(mask.size() * 2);
  }
  int count = 0;
  for (unsigned long word : mask) count += __builtin_popcountl(word);
  return count;
}

// Empty for a file that is not there.
std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (!file) return lines;
  std::string line;
  for (int c; (c = std::fgetc(file)) != EOF;) {
    if (c != '\n') {
      line += static_cast<char>(c);
    } else {
      lines.push_back(std::move(line));
      line.clear();
    }
  }
  if (!line.empty()) lines.push_back(std::move(line));
  std::fclose(file);
  return lines;
}

std::string first_line(const std::string& path) {
  const std::vector<std::string> lines = lines_of(path);
  return lines.empty() ? "" : lines[0];
}

// Quota over period, rounded up; INT_MAX where there is none: "max", -1, or no such file.
int processors_of(const std::string& quota, const std::string& period) {
  const long long time = std::strtoll(quota.c_str(), nullptr, 10);
  const long long of = std::strtoll(period.c_str(), nullptr, 10);
  if (time <= 0 || of <= 0) return INT_MAX;
  return static_cast<int>(std::min<long long>((time + of - 1) / of, INT_MAX));
}

int quota_v1(const std::string& group) {
  return processors_of(first_line(group + "/cpu.cfs_quota_us"),
                       first_line(group + "/cpu.cfs_period_us"));
}

int quota_v2(const std::string& group) {
  const std::string line = first_line(group + "/cpu.max");  // "200000 100000"
  const size_t space = line.find(' ');
  return space == npos ? INT_MAX : processors_of(line.substr(0, space), line.substr(space));
}

// The least of the quotas of this process's group and of the groups around it. In a container the
// path may be the host's, of which only the root is seen: files that are not there limit nothing.
int cgroup_quota(const std::string& root) {
  int processors = INT_MAX;
  for (const std::string& line : lines_of(root + "/proc/self/cgroup")) {
    const size_t first = line.find(':');  // hierarchy:controllers:path
    const size_t second = first == npos ? npos : line.find(':', first + 1);
    if (second == npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool v2 = controllers == ",,";
    if (!v2 && controllers.find(",cpu,") == npos) continue;

    const std::string mount = root + (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    for (std::string path = line.substr(second + 1);;) {
      processors = std::min(processors, v2 ? quota_v2(mount + path) : quota_v1(mount + path));
      const size_t parent = path.rfind('/');
      if (parent == npos) break;
      path.resize(parent);
    }
  }
  return processors;
}

}  // namespace

int available_processors(const std::string& root) {
  return std::max(1, std::min(affinity(), cgroup_quota(root)));
}

}  // namespace vllm::cpu
