// Prints how many processors csrc/cpu finds, with the system's files under the folder it is given.
#include <cstdio>

#include "cpu/processors.h"

int main(int, char** arguments) {
  std::printf("%d\n", vllm::cpu::available_processors(arguments[1]));
}
