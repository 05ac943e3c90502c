// The threads behind cpu::run: one pool a process, made at the first work that is large enough.
//
// Workers sleep between jobs. A caller never waits for a worker to wake: it does the items itself,
// and only waits for those that workers have begun. The pool is never destroyed, so that leaving
// the process cannot deadlock on it, and a child of fork(), which has no workers, makes its own.
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "cpu/kernels.h"
#include "cpu/processors.h"
#include "runtime/error.h"

namespace vllm::cpu {
namespace {

constexpr int kMaxThreads = 1024;

// Chunks per thread: enough that one delayed thread does not hold up the rest.
constexpr i64 kChunksPerThread = 4;

class Job {
 public:
  Job(void (*task)(const void*, i64, i64), const void* context, i64 items, i64 threads)
      : task_(task),
        context_(context),
        items_(items),
        chunk_(std::max<i64>(1, items / (threads * kChunksPerThread))) {}

  // Takes chunks until none is left.
  void work() {
    for (;;) {
      const i64 begin = next_.fetch_add(chunk_, std::memory_order_relaxed);
      if (begin >= items_) return;
      task_(context_, begin, std::min(begin + chunk_, items_));
    }
  }

 private:
  void (*const task_)(const void*, i64, i64);
  const void* const context_;
  const i64 items_;
  const i64 chunk_;
  std::atomic<i64> next_{0};
};

class Pool {
 public:
  // False, with nothing done, while another thread's job is running.
  bool run(Job& job, i64 threads) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn) return false;
    grow(threads - 1);

    std::unique_lock<std::mutex> lock(mutex_);
    job_ = &job;
    vacancies_ = std::min(threads - 1, workers_);
    for (i64 i = 0; i < vacancies_; ++i) wake_.notify_one();
    lock.unlock();

    job.work();

    lock.lock();
    job_ = nullptr;  // workers that wake from here on find no job
    done_.wait(lock, [this] { return active_ == 0; });
    return true;
  }

  const pid_t process = getpid();

 private:
  void grow(i64 wanted) {
    if (workers_ >= wanted) return;
    // Workers block signals: a signal handled by a worker would not interrupt the main thread's
    // system call.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; workers_ < wanted; ++workers_) std::thread(&Pool::serve, this).detach();
    } catch (const std::system_error&) {
      // A limit on threads: the ones that there are do the work.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void serve() {
    prctl(PR_SET_NAME, "vllm-cpu");
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return job_ && vacancies_ > 0; });
      Job& job = *job_;
      --vacancies_;
      ++active_;
      lock.unlock();
      job.work();
      lock.lock();
      if (--active_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_;  // held for the whole of a job
  i64 workers_ = 0;  // under turn_

  std::mutex mutex_;  // of what follows
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  i64 vacancies_ = 0;  // workers that may still join the job
  i64 active_ = 0;     // workers in the job
};

Pool& pool() {
  static std::atomic<Pool*> current{nullptr};
  Pool* found = current.load(std::memory_order_acquire);
  if (found && found->process == getpid()) return *found;
  Pool* fresh = new Pool;
  if (current.compare_exchange_strong(found, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;  // another thread was first
  return *found;
}

int threads_asked() {
  const char* text = std::getenv("VLLM_CPU_THREADS");
  if (!text || !*text) return std::min(available_processors(), kMaxThreads);
  char* end;
  errno = 0;
  const long threads = std::strtol(text, &end, 10);
  if (errno || *end || threads < 1 || threads > kMaxThreads) {
    throw Error(ErrorKind::value, "VLLM_CPU_THREADS is '" + std::string(text) +
                                      "': it takes a number from 1 to " +
                                      std::to_string(kMaxThreads));
  }
  return static_cast<int>(threads);
}

}  // namespace

int num_threads() {
  static const int threads = threads_asked();
  return threads;
}

void parallel_for(void (*task)(const void*, i64, i64), const void* context, i64 items,
                  i64 threads) {
  Job job(task, context, items, threads);
  // If the workers are busy with another caller's job, this thread does all of its own.
  if (!pool().run(job, threads)) job.work();
}

}  // namespace vllm::cpu
