#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/gateway.hpp"

namespace tornado::inline v1 {

/// Who may call an operation.
enum class Permission : std::uint8_t {
  status,  ///< anybody on this host: numbers, no names
  read,    ///< operators
  write,   ///< operators
};

enum class ParameterKind : std::uint8_t {
  text,      ///< --name VALUE, or positional
  integer,   ///< a whole number
  flag,      ///< --name, without a value
  secret,    ///< never an argument: from standard input (--name-stdin) or a prompt
  document,  ///< on the command line the path of a file, or - for standard input; in a call its content, up to 1 MiB
};

class Parameter {
 public:
  std::string_view name;
  ParameterKind kind = ParameterKind::text;
  bool positional = false;
  bool required = false;
  std::string_view summary;
};

/// The parameters of a call, already checked against the table.
class Arguments {
 public:
  explicit Arguments(boost::json::object values) : values_(std::move(values)) {}
  std::string text(std::string_view name) const;
  std::optional<std::string> maybe_text(std::string_view name) const;
  std::optional<std::int64_t> maybe_integer(std::string_view name) const;
  bool flag(std::string_view name) const;
  /// A lane that exists. Errors: not_found, naming those that do.
  Result<Lane> lane(std::string_view name) const;

 private:
  boost::json::object values_;
};

using OperationHandler = Task<boost::json::value> (*)(Gateway&, Caller, Arguments);

/// One thing an operator can ask for. The table feeds the control socket, the CLI with its help, and the Python stubs.
class Operation {
 public:
  std::string_view name;  ///< "user.add"; on the command line "user add"
  Permission permission = Permission::read;
  std::string_view summary;
  std::string_view example;
  std::vector<Parameter> parameters;
  std::vector<std::string_view> columns;  ///< of a table for people; empty: a list of fields
  bool confirm = false;                   ///< needs --yes
  OperationHandler handler = nullptr;
  std::string_view verdict{};  ///< a field of the answer; false anywhere makes the exit status of tornadoctl 1
};

/// All operations, grouped by noun.
std::span<const Operation> operations();
const Operation* find_operation(std::string_view name);
/// Unknown, missing and mistyped parameters are invalid_argument naming the parameter.
Result<Arguments> check_arguments(const Operation& operation, const boost::json::object& values);

// One file per noun fills its part of the table.
void add_user_operations(std::vector<Operation>& table);
void add_device_operations(std::vector<Operation>& table);
void add_session_operations(std::vector<Operation>& table);
void add_lane_operations(std::vector<Operation>& table);
void add_security_operations(std::vector<Operation>& table);
void add_tor_operations(std::vector<Operation>& table);
void add_verify_operations(std::vector<Operation>& table);
void add_why_operations(std::vector<Operation>& table);
void add_policy_operations(std::vector<Operation>& table);
void add_gateway_operations(std::vector<Operation>& table);
void add_config_operations(std::vector<Operation>& table);

}  // namespace tornado::inline v1
