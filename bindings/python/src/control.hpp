#pragma once

#include <optional>

#include "bind.hpp"
#include "tornado/control.hpp"

namespace tornado::inline v1 {

/// A ControlClient for several Python threads: one call at a time.
class SharedControlClient {
 public:
  SharedControlClient(std::string path, int timeout);
  std::string call(const std::string& method, const std::string& params_json);
  const std::string& path() const noexcept { return path_; }
  int timeout() const noexcept { return timeout_; }

 private:
  std::string path_;
  int timeout_;
  std::mutex mutex_;
  ControlClient client_;
};

/// The event stream of a gateway, on a connection of its own. Events are pulled; nothing calls into Python.
class EventStream {
 public:
  EventStream(const std::string& path, int timeout, std::optional<std::uint64_t> after);
  /// Empty: none came in time. Whole seconds, at least 1.
  std::optional<Event> wait(int seconds);
  void close();

 private:
  std::mutex mutex_;
  std::optional<ControlClient> client_;
};

}  // namespace tornado::inline v1
