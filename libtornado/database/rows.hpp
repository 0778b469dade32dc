#pragma once

#include <charconv>
#include <string>

#include "tornado/database.hpp"

namespace tornado::inline v1 {

/// Reading columns as both engines write them.
inline std::string text(const Value& value) {
  return value.value_or(std::string());
}

inline std::int64_t integer(const Value& value) {
  std::int64_t out = 0;
  if (value) std::from_chars(value->data(), value->data() + value->size(), out);
  return out;
}

inline bool boolean(const Value& value) {
  return value && (*value == "1" || *value == "t" || *value == "true" || *value == "TRUE");
}

inline Instant instant(const Value& value) {
  auto parsed = parse_iso8601(text(value));
  return parsed ? *parsed : Instant();
}

inline Instant instant_ms(const Value& value) {
  return Instant(std::chrono::milliseconds(integer(value)));
}

inline std::string ms(Instant instant) {
  return std::to_string(instant.time_since_epoch().count());
}

inline Value optional_time(Instant instant) {
  return instant == Instant() ? Value() : Value(iso8601(instant));
}

}  // namespace tornado::inline v1
