#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tornado/export.hpp"

namespace tornado::inline v1 {

enum class LogLevel : std::uint8_t { debug, info, warning, error };

/// One named value of a log line. Values are texts; a Secret does not convert.
using LogField = std::pair<std::string_view, std::string>;

/// Where log lines go. The library keeps no logger of its own and writes nowhere by itself.
///
/// `write` may be called from any thread and must not block for long nor throw.
class TORNADO_API LogSink {
 public:
  virtual ~LogSink() = default;
  /// `id` is a stable message id, listed with its remedy in docs/events.md.
  virtual void write(LogLevel level, std::string_view id, const std::vector<LogField>& fields) = 0;
  /// Lines below this level are dropped from now on, by sinks that drop any. Any thread.
  virtual void least(LogLevel) {}
};

/// A sink that drops everything.
TORNADO_API LogSink& null_log() noexcept;

/// One JSON object per line on standard error, as contract 10.1 has them: ts, service, level, event, and the fields.
/// Lines below `least` are dropped.
TORNADO_API std::unique_ptr<LogSink> json_log(LogLevel least);

}  // namespace tornado::inline v1
