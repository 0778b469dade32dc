#include "tornado/log.hpp"

namespace tornado::inline v1 {
namespace {

class NullLog final : public LogSink {
 public:
  void write(LogLevel, std::string_view, const std::vector<LogField>&) override {}
};

}  // namespace

LogSink& null_log() noexcept {
  static NullLog sink;
  return sink;
}

}  // namespace tornado::inline v1
