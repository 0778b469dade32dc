#include "output/table.hpp"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <ostream>
#include <string>

namespace json = boost::json;

namespace tornadoctl {
namespace {

std::string cell(const json::value& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_bool()) return value.get_bool() ? "yes" : "no";
  if (value.is_double()) {
    char digits[64];
    auto end = std::to_chars(digits, digits + sizeof digits, value.get_double(), std::chars_format::fixed, 1).ptr;
    return std::string(digits, end);
  }
  if (!value.is_array()) return json::serialize(value);
  std::string out;
  for (const auto& entry : value.get_array()) out += (out.empty() ? "" : ",") + cell(entry);
  return out.empty() ? "-" : out;
}

void print_table(std::ostream& out, const json::array& rows, const std::vector<std::string_view>& columns) {
  std::vector<std::vector<std::string>> cells;
  std::vector<std::size_t> widths;
  for (auto column : columns) widths.push_back(column.size());
  for (const auto& row : rows) {
    auto& line = cells.emplace_back();
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto* value = row.is_object() ? row.get_object().if_contains(columns[i]) : nullptr;
      line.push_back(value != nullptr ? cell(*value) : "-");
      widths[i] = std::max(widths[i], line.back().size());
    }
  }
  auto print_line = [&](auto&& text_of) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      std::string text(text_of(i));
      bool last = i + 1 == columns.size();
      out << text << (last ? "\n" : std::string(widths[i] - text.size() + 2, ' '));
    }
  };
  print_line([&](std::size_t i) { return columns[i]; });
  for (const auto& line : cells) print_line([&](std::size_t i) { return line[i]; });
}

void print_fields(std::ostream& out, const json::object& object, const std::string& indent) {
  std::size_t width = 0;
  for (const auto& [key, value] : object) width = std::max(width, key.size());
  for (const auto& [key, value] : object) {
    if (value.is_object() && !value.get_object().empty()) {
      out << indent << std::string_view(key) << "\n";
      print_fields(out, value.get_object(), indent + "  ");
    } else if (value.is_array() && !value.get_array().empty() && value.get_array()[0].is_object()) {
      out << indent << std::string_view(key) << "\n";
      for (const auto& entry : value.get_array()) {
        print_fields(out, entry.get_object(), indent + "  ");
        out << "\n";
      }
    } else if (value.is_string() && value.get_string().find('\n') != json::string::npos) {
      out << std::string_view(value.get_string());
    } else {
      out << indent << std::string_view(key) << std::string(width - key.size() + 2, ' ') << cell(value) << "\n";
    }
  }
}

}  // namespace

void print_for_people(std::ostream& out, const json::value& value, const std::vector<std::string_view>& columns) {
  if (value.is_array())
    print_table(out, value.get_array(), columns);
  else if (value.is_object())
    print_fields(out, value.get_object(), "");
  else
    out << cell(value) << "\n";
}

}  // namespace tornadoctl
