// One client connection: where the stream is cut must not matter to what is read from it.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "http/http_codec.hpp"

using namespace tornado;

namespace {

class Stream {
 public:
  /// False: the connection is lost.
  bool arrive(std::string_view bytes) {
    buffer_.append(bytes);
    while (!buffer_.empty()) {
      auto used = parser_.feed(buffer_);
      if (!used) return false;
      if (*used > buffer_.size()) std::abort();
      buffer_.erase(0, *used);
      if (parser_.done()) requests.push_back(parser_.take());
      if (*used == 0) break;
    }
    (void)parser_.wants_continue();
    return true;
  }
  std::vector<HttpRequest> requests;

 private:
  HttpRequestParser parser_{2048, 1024};
  std::string buffer_;
};

bool same(const HttpRequest& a, const HttpRequest& b) {
  return a.method == b.method && a.path == b.path && a.query == b.query && a.body == b.body &&
         a.authorization == b.authorization && a.keep_alive == b.keep_alive;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  std::size_t cut = data[0] * text.size() / 256;
  Stream whole, parts;
  (void)whole.arrive(text);
  if (parts.arrive(text.substr(0, cut))) (void)parts.arrive(text.substr(cut));
  // A limit may strike earlier in the one than in the other; what both have read is the same.
  for (std::size_t i = 0; i < std::min(whole.requests.size(), parts.requests.size()); ++i) {
    if (!same(whole.requests[i], parts.requests[i])) std::abort();
    if (whole.requests[i].body.size() > 1024) std::abort();
  }
  return 0;
}
