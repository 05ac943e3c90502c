// How many processors this process may use.
#pragma once

#include <string>

namespace vllm::cpu {

// The processors of the affinity mask (taskset, cpusets), but no more than the CPU quota of the
// control groups allows, rounded up; at least 1. `root` is where the system's files are found.
int available_processors(const std::string& root = "");

}  // namespace vllm::cpu
