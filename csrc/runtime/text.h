// Building messages without iostreams, which would be half of the library's size.
#pragma once

#include <cstdio>
#include <string>
#include <type_traits>

namespace vllm {

template <typename Part>
void append(std::string& text, const Part& part) {
  if constexpr (std::is_floating_point_v<Part>) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%g", static_cast<double>(part));
    text += digits;
  } else if constexpr (std::is_arithmetic_v<Part>) {
    text += std::to_string(part);
  } else {
    text += part;
  }
}

// concat("sm_", 90) == "sm_90"
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::string text;
  (append(text, parts), ...);
  return text;
}

// join({"a", "b"}) == "a, b"
template <typename Strings>
std::string join(const Strings& strings) {
  std::string text;
  for (const std::string& each : strings) {
    if (!text.empty()) text += ", ";
    text += each;
  }
  return text;
}

}  // namespace vllm
