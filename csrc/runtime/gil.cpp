// Acquires the GIL again in a process that may be exiting.
//
// This file is compiled with -fno-exceptions: then pthread_cleanup_push is the C form, a jump, and
// not a destructor that an unwinder would have to find.
#include <pthread.h>
#include <unistd.h>

#include "runtime/python_abi.h"

namespace vllm {
namespace {

void wait_for_the_end(void*) {
  for (;;) pause();
}

}  // namespace

void restore_thread(PyThreadState* state) {
  // While the interpreter is finalized, Pythons before 3.14 call pthread_exit in a daemon thread
  // that acquires the GIL. That unwinds its stack with libgcc's unwinder, which cannot walk frames
  // of another C++ library (ours is linked statically), and crashes the process. Like Python 3.14,
  // we wait for the end of the process instead.
  pthread_cleanup_push(wait_for_the_end, nullptr);
  PyEval_RestoreThread(state);
  pthread_cleanup_pop(0);
}

}  // namespace vllm
