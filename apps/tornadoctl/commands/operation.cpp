#include <termios.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>

#include "api/error_map.hpp"
#include "base/json.hpp"
#include "commands/command.hpp"
#include "output/table.hpp"

using namespace tornado;
namespace json = boost::json;

namespace tornadoctl {
namespace {

const Parameter* option_named(const Operation& operation, std::string_view name) {
  for (const auto& parameter : operation.parameters)
    if (!parameter.positional && parameter.name == name) return &parameter;
  return nullptr;
}

Result<std::string> read_document(const std::string& path) {
  std::ifstream file;
  if (path != "-") file.open(path, std::ios::binary);
  std::istream& in = path == "-" ? std::cin : file;
  std::string out(std::istreambuf_iterator<char>(in), {});
  if (path != "-" && !file.is_open()) return Error(errc::invalid_argument, "cannot read " + path);
  return out;
}

Result<void> put(json::object& params, const Parameter& parameter, const std::string& text) {
  if (parameter.kind == ParameterKind::document) {
    auto content = read_document(text);
    if (!content) return content.error();
    params[parameter.name] = *content;
    return {};
  }
  if (parameter.kind != ParameterKind::integer) {
    params[parameter.name] = text;
    return {};
  }
  std::int64_t number = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc() || end != text.data() + text.size())
    return Error(errc::invalid_argument,
                 "--" + std::string(parameter.name) + ": a whole number is expected, not '" + text + "'");
  params[parameter.name] = number;
  return {};
}

/// The words after noun and verb.
class Words {
 public:
  Words(const Operation& operation, const std::vector<std::string>& words) : operation_(operation), words_(words) {}

  Result<json::object> parse() {
    for (; at_ < words_.size(); ++at_) {
      const std::string& word = words_[at_];
      auto taken = word.starts_with("--") ? option(word.substr(2)) : positional(word);
      if (!taken) return taken.error();
    }
    for (const auto& parameter : operation_.parameters) {
      if (parameter.kind != ParameterKind::secret || params_.contains(parameter.name)) continue;
      auto secret = read_secret(std::string(parameter.name), secret_from_stdin_);
      if (!secret) return secret.error();
      params_[parameter.name] = *secret;
    }
    if (operation_.confirm && !confirmed_)
      return Error(errc::invalid_argument, "this cannot be undone: repeat with --yes");
    return params_;
  }

 private:
  Result<void> option(std::string name) {
    std::optional<std::string> value;
    if (auto equals = name.find('='); equals != name.npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    if (name == "yes" && operation_.confirm) {
      confirmed_ = true;
      return {};
    }
    if (name.ends_with("-stdin")) {
      const Parameter* secret = option_named(operation_, name.substr(0, name.size() - 6));
      if (secret != nullptr && secret->kind == ParameterKind::secret) {
        secret_from_stdin_ = true;
        return {};
      }
    }
    const Parameter* parameter = option_named(operation_, name);
    if (parameter == nullptr) return Error(errc::invalid_argument, "no option --" + name);
    if (parameter->kind == ParameterKind::secret)
      return Error(errc::invalid_argument,
                   "--" + name + ": secrets are not taken from arguments; use --" + name + "-stdin");
    if (parameter->kind == ParameterKind::flag) {
      params_[parameter->name] = true;
      return {};
    }
    if (!value && at_ + 1 >= words_.size()) return Error(errc::invalid_argument, "--" + name + " needs a value");
    return put(params_, *parameter, value ? *value : words_[++at_]);
  }

  Result<void> positional(const std::string& word) {
    for (const auto& parameter : operation_.parameters)
      if (parameter.positional && !params_.contains(parameter.name)) return put(params_, parameter, word);
    return Error(errc::invalid_argument, "one word too many: '" + word + "'");
  }

  const Operation& operation_;
  const std::vector<std::string>& words_;
  std::size_t at_ = 0;
  json::object params_;
  bool confirmed_ = false;
  bool secret_from_stdin_ = false;
};

/// Switches the echo of a terminal off for its life.
class Silence {
 public:
  Silence() {
    active_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (!active_) return;
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  ~Silence() {
    if (active_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
  }

 private:
  termios before_{};
  bool active_ = false;
};

std::string ask(const std::string& question) {
  std::string line;
  std::cerr << question << ": " << std::flush;
  Silence silence;
  std::getline(std::cin, line);
  std::cerr << "\n";
  return line;
}

/// Whether a field is not false, in the answer or in any entry of its list.
bool holds(const json::value& answer, std::string_view field) {
  if (field.empty()) return true;
  if (answer.is_object()) return bool_at(answer.get_object(), field).value_or(true);
  if (!answer.is_array()) return true;
  const auto& entries = answer.get_array();
  return std::all_of(entries.begin(), entries.end(), [&](const json::value& entry) { return holds(entry, field); });
}

}  // namespace

int fail(const Error& error) {
  std::cerr << "tornadoctl: " << (error.detail().empty() ? std::string(name(error.code())) : error.detail()) << "\n";
  return exit_status(class_of(error.code()));
}

int usage(const std::string& why) {
  std::cerr << "tornadoctl: " << why << "; see tornadoctl --help\n";
  return 2;
}

Result<std::string> read_secret(const std::string& name, bool from_stdin) {
  if (!from_stdin && ::isatty(STDIN_FILENO) == 1) {
    std::string first = ask(name);
    if (first != ask(name + " again"))
      return Error(errc::invalid_argument, "the two entries differ; nothing was changed");
    return first;
  }
  if (!from_stdin)
    return Error(errc::invalid_argument, "no terminal to ask for the " + name + ": use --" + name + "-stdin");
  std::string line;
  if (!std::getline(std::cin, line) || line.empty())
    return Error(errc::invalid_argument, "standard input holds no " + name);
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

int run_operation(const Globals& globals, const Operation& operation, const std::vector<std::string>& words) {
  auto params = Words(operation, words).parse();
  if (!params) return usage(params.error().detail());
  if (auto checked = check_arguments(operation, *params); !checked) return usage(checked.error().detail());
  ControlClient client(globals.socket);
  auto result = client.call(operation.name, json::serialize(*params));
  if (!result) return fail(result.error());
  auto value = parse_json(*result);
  if (!value) return fail(value.error());
  const int status = holds(*value, operation.verdict) ? 0 : 1;
  if (globals.json) {
    std::cout << *result << "\n";
    return status;
  }
  print_for_people(std::cout, *value, operation.columns);
  return status;
}

}  // namespace tornadoctl
