#include "base/json.hpp"

#include <boost/json/parser.hpp>
#include <boost/json/serialize.hpp>

namespace tornado::inline v1 {

Result<boost::json::value> parse_json(std::string_view text, bool comments) {
  boost::json::parse_options options;
  options.allow_comments = comments;
  options.allow_trailing_commas = comments;
  options.max_depth = 32;
  boost::json::parser parser({}, options);
  boost::system::error_code ec;
  std::size_t used = parser.write_some(text.data(), text.size(), ec);
  if (!ec && used < text.size()) ec = boost::json::error::extra_data;
  if (!ec) return parser.release();
  auto line =
      1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(used, text.size())), '\n');
  return Error(errc::invalid_argument, "not JSON (line " + std::to_string(line) + "): " + ec.message());
}

std::string to_json(const boost::json::value& value) {
  return boost::json::serialize(value);
}

std::optional<std::string> text_at(const boost::json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::optional<std::string>(value->get_string()) : std::nullopt;
}

std::optional<std::int64_t> integer_at(const boost::json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = value->if_int64()) return *number;
  if (const auto* number = value->if_uint64(); number != nullptr && *number <= INT64_MAX)
    return static_cast<std::int64_t>(*number);
  return std::nullopt;
}

std::optional<bool> bool_at(const boost::json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_bool() ? std::optional<bool>(value->get_bool()) : std::nullopt;
}

}  // namespace tornado::inline v1
