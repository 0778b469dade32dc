#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// Threads for calls that block. General threads serve database, signing and file work, in this order; hashing has
/// threads of its own at a lower priority, started when first needed. Queues are bounded. Any thread.
class BlockingPool {
 public:
  BlockingPool(int general_threads, int hashing_threads);
  ~BlockingPool();

  /// False: the queue of that purpose is full, or the pool is closing. `job` must not throw.
  bool post(Blocking purpose, std::function<void()> job);
  std::size_t waiting(Blocking purpose) const;
  int hashing_threads() const noexcept { return hashing_threads_; }
  /// True inside a job of any pool. What belongs to the loop asserts that it is not.
  static bool runs_here() noexcept;
  /// Finishes what is queued and joins. Nothing is accepted afterwards.
  void close();

 private:
  static constexpr std::size_t purposes = 4;
  void run_general();
  void run_hashing();
  /// Jobs of these purposes until the pool closes; `idle` counts the threads that wait.
  void serve(std::size_t first, std::size_t last, std::condition_variable& ready, int& idle);
  bool take(std::function<void()>& job, std::size_t first, std::size_t last);

  const int hashing_threads_;
  mutable std::mutex mutex_;
  std::condition_variable general_ready_;
  std::condition_variable hashing_ready_;
  std::array<std::deque<std::function<void()>>, purposes> queues_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
  int hashing_started_ = 0;
  int hashing_idle_ = 0;
};

}  // namespace tornado::inline v1
