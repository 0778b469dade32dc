// What a control socket sends: the first byte says how the rest is cut into portions.
#include <cstdint>
#include <cstdlib>

#include "tor/circuit_book.hpp"
#include "tor/control_codec.hpp"

using namespace tornado;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::size_t portion = data[0] % 64 + 1;
  ControlParser parser;
  CircuitBook book;
  bool good = true;
  while (good && !bytes.empty()) {
    good = parser.feed(bytes.substr(0, portion)).has_value();
    bytes.remove_prefix(std::min(portion, bytes.size()));
    while (auto reply = parser.next()) {
      if (reply->lines.empty()) std::abort();
      (void)ProtocolInfo::parse(*reply);
      (void)SafeCookie(std::string(32, 'c'), "n").authenticate(*reply);
      for (const ControlLine& line : reply->lines) {
        (void)ControlWords::parse(line.text);
        (void)BootstrapLine::parse(line.text);
        if (auto circuit = CircuitLine::parse(line.text)) book.circuit(*circuit);
        if (auto stream = StreamLine::parse(line.text)) {
          book.stream(*stream);
          if (auto source = Address::parse(stream->source)) (void)book.circuits_of(*source);
        }
        auto quoted_again = ControlWords::parse("K=" + quoted(line.text));
        if (!quoted_again || (*quoted_again)["K"] != line.text) std::abort();
      }
    }
  }
  (void)book.list();
  return 0;
}
