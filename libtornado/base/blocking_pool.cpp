#include "base/blocking_pool.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <stdexcept>

namespace tornado::inline v1 {
namespace {

constexpr std::array<std::size_t, 4> limits{4096, 4096, 256, 512};
constexpr std::size_t hashing = static_cast<std::size_t>(Blocking::hashing);
static_assert(hashing == 3, "general threads serve the purposes before hashing, in order");
thread_local bool pool_thread = false;

}  // namespace

BlockingPool::BlockingPool(int general_threads, int hashing_threads) : hashing_threads_(hashing_threads) {
  if (general_threads < 1 || general_threads > 64 || hashing_threads < 1 || hashing_threads > 64)
    throw std::invalid_argument("a runtime has 1 to 64 blocking and hashing threads");
  for (int i = 0; i < general_threads; ++i) threads_.emplace_back([this] { run_general(); });
}

BlockingPool::~BlockingPool() {
  close();
}

bool BlockingPool::post(Blocking purpose, std::function<void()> job) {
  auto index = static_cast<std::size_t>(purpose);
  std::lock_guard lock(mutex_);
  if (closing_ || queues_[index].size() >= limits[index]) return false;
  queues_[index].push_back(std::move(job));
  if (index != hashing) {
    general_ready_.notify_one();
  } else if (hashing_idle_ > 0 || hashing_started_ == hashing_threads_) {
    hashing_ready_.notify_one();
  } else {
    threads_.emplace_back([this] { run_hashing(); });
    ++hashing_started_;
  }
  return true;
}

std::size_t BlockingPool::waiting(Blocking purpose) const {
  std::lock_guard lock(mutex_);
  return queues_[static_cast<std::size_t>(purpose)].size();
}

void BlockingPool::close() {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    threads.swap(threads_);
  }
  general_ready_.notify_all();
  hashing_ready_.notify_all();
  for (auto& thread : threads) thread.join();
}

bool BlockingPool::take(std::function<void()>& job, std::size_t first, std::size_t last) {
  for (std::size_t i = first; i < last; ++i) {
    if (queues_[i].empty()) continue;
    job = std::move(queues_[i].front());
    queues_[i].pop_front();
    return true;
  }
  return false;
}

void BlockingPool::run_general() {
  int idle = 0;
  serve(0, hashing, general_ready_, idle);
}

void BlockingPool::run_hashing() {
  // On Linux a nice value belongs to the thread: a storm of logins gives way to everything else.
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 15);
  serve(hashing, purposes, hashing_ready_, hashing_idle_);
}

bool BlockingPool::runs_here() noexcept {
  return pool_thread;
}

void BlockingPool::serve(std::size_t first, std::size_t last, std::condition_variable& ready, int& idle) {
  pool_thread = true;
  std::unique_lock lock(mutex_);
  std::function<void()> job;
  for (;;) {
    if (take(job, first, last)) {
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
    } else if (closing_) {
      return;
    } else {
      ++idle;
      ready.wait(lock);
      --idle;
    }
  }
}

}  // namespace tornado::inline v1
