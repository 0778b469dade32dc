// The control socket's lines, up to the handlers: cut, parsed, checked against the table of operations.
#include <cstdint>
#include <cstdlib>

#include "api/operations.hpp"
#include "api/rpc_codec.hpp"

using namespace tornado;

namespace {

void read_request(const std::string& line) {
  boost::json::value id;
  auto request = parse_rpc_request(line, id);
  if (!request) {
    std::string answer = rpc_error(id, request.error());
    if (answer.find('\n') != answer.size() - 1 || parse_rpc_answer(answer)) std::abort();
    return;
  }
  const Operation* operation = find_operation(request->method);
  if (operation == nullptr) return;
  auto arguments = check_arguments(*operation, request->params);
  if (!arguments) return;
  for (const auto& parameter : operation->parameters) {
    (void)arguments->maybe_text(parameter.name);
    (void)arguments->maybe_integer(parameter.name);
    (void)arguments->flag(parameter.name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  std::size_t cut = data[0] * text.size() / 256;
  LineCutter cutter(4096);
  for (std::string_view piece : {text.substr(0, cut), text.substr(cut)}) {
    if (!cutter.feed(piece)) break;
    while (auto line = cutter.next()) {
      read_request(*line);
      (void)parse_rpc_answer(*line);
    }
  }
  return 0;
}
