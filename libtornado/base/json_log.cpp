#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/json.hpp"
#include "tornado/log.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {
namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                  spdlog::level::err};
  return levels[static_cast<std::size_t>(level)];
}

std::string_view name_of(LogLevel level) {
  constexpr std::string_view names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
  return names[static_cast<std::size_t>(level)];
}

class JsonLog final : public LogSink {
 public:
  explicit JsonLog(LogLevel least) : logger_("tornadod", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    logger_.set_pattern("%v");
    logger_.set_level(level_of(least));
    logger_.flush_on(spdlog::level::debug);
  }

  void write(LogLevel level, std::string_view id, const std::vector<LogField>& fields) override {
    if (!logger_.should_log(level_of(level))) return;
    boost::json::object line;
    line["ts"] = iso8601(std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now()));
    line["service"] = "tornadod";
    line["level"] = name_of(level);
    line["event"] = id;
    for (const auto& [key, value] : fields) line[key] = value;
    logger_.log(level_of(level), "{}", to_json(line));
  }

  void least(LogLevel level) override { logger_.set_level(level_of(level)); }

 private:
  spdlog::logger logger_;
};

}  // namespace

std::unique_ptr<LogSink> json_log(LogLevel least) {
  return std::make_unique<JsonLog>(least);
}

}  // namespace tornado::inline v1
