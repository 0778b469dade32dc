// The parser of UAPI answers, fed in two pieces: where the input is cut must not matter.
#include <cstdint>
#include <cstdlib>

#include "wireguard/uapi_codec.hpp"

using namespace tornado;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  std::size_t cut = text.empty() ? 0 : data[0] * text.size() / 256;
  UapiParser whole, parts;
  bool good = whole.feed(text).has_value();
  bool same = parts.feed(text.substr(0, cut)).has_value() && parts.feed(text.substr(cut)).has_value();
  if (good != same || (good && (whole.done() != parts.done() || whole.status() != parts.status()))) std::abort();
  if (good && whole.take().peers.size() != parts.take().peers.size()) std::abort();
  return 0;
}
