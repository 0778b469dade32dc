#include "api/operations.hpp"

#include "base/json.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_document = 1 << 20;

std::vector<Operation> make_table() {
  std::vector<Operation> table;
  add_user_operations(table);
  add_device_operations(table);
  add_session_operations(table);
  add_lane_operations(table);
  add_why_operations(table);
  add_policy_operations(table);
  add_verify_operations(table);
  add_tor_operations(table);
  add_security_operations(table);
  add_gateway_operations(table);
  add_config_operations(table);
  return table;
}

bool fits(ParameterKind kind, const json::value& value) {
  switch (kind) {
    case ParameterKind::integer:
      return value.is_int64() || value.is_uint64();
    case ParameterKind::flag:
      return value.is_bool();
    default:
      return value.is_string();
  }
}

Error wrong(std::string_view parameter, std::string_view why) {
  return Error(errc::invalid_argument, std::string(parameter) + ": " + std::string(why));
}

}  // namespace

std::span<const Operation> operations() {
  static const std::vector<Operation> table = make_table();
  return table;
}

const Operation* find_operation(std::string_view name) {
  for (const Operation& operation : operations())
    if (operation.name == name) return &operation;
  return nullptr;
}

Result<Arguments> check_arguments(const Operation& operation, const json::object& values) {
  for (const auto& [key, value] : values) {
    const Parameter* known = nullptr;
    for (const auto& parameter : operation.parameters)
      if (parameter.name == std::string_view(key)) known = &parameter;
    if (known == nullptr) return wrong(key, "no such parameter");
    if (!value.is_null() && !fits(known->kind, value)) return wrong(key, "has the wrong type");
    const std::size_t most = known->kind == ParameterKind::document ? most_document : 4096;
    if (value.is_string() && value.get_string().size() > most) return wrong(key, "is too long");
  }
  for (const auto& parameter : operation.parameters) {
    const auto* value = values.if_contains(parameter.name);
    if (parameter.required && (value == nullptr || value->is_null())) return wrong(parameter.name, "is missing");
  }
  return Arguments(values);
}

std::string Arguments::text(std::string_view name) const {
  return text_at(values_, name).value_or(std::string());
}
std::optional<std::string> Arguments::maybe_text(std::string_view name) const {
  return text_at(values_, name);
}
std::optional<std::int64_t> Arguments::maybe_integer(std::string_view name) const {
  return integer_at(values_, name);
}
bool Arguments::flag(std::string_view name) const {
  return bool_at(values_, name).value_or(false);
}
Result<Lane> Arguments::lane(std::string_view name) const {
  const std::string asked = text_at(values_, name).value_or("vpn");
  // What is no lane must not become one: their texts are kept for ever.
  for (std::string_view known : {"vpn", "tor"})
    if (asked == known) return Lane(known);
  return Error(errc::not_found, "no lane '" + asked + "'; there are vpn and tor");
}

}  // namespace tornado::inline v1
