#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// Parses one document; comments are allowed where `comments` says so. invalid_argument names the place.
Result<boost::json::value> parse_json(std::string_view text, bool comments = false);
std::string to_json(const boost::json::value& value);

/// Members of an object; empty if absent or of another kind.
std::optional<std::string> text_at(const boost::json::object& object, std::string_view key);
std::optional<std::int64_t> integer_at(const boost::json::object& object, std::string_view key);
std::optional<bool> bool_at(const boost::json::object& object, std::string_view key);

}  // namespace tornado::inline v1
