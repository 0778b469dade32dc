#include "tor/control_codec.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <charconv>

#include "base/encoding.hpp"
#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t cookie_size = 32, hash_size = 32, fingerprint_size = 40;
constexpr std::string_view server_key = "Tor safe cookie authentication server-to-controller hash";
constexpr std::string_view controller_key = "Tor safe cookie authentication controller-to-server hash";

Error malformed(std::string_view what) {
  return Error(errc::protocol_error, "tor: " + std::string(what));
}

std::string hmac(std::string_view key, const std::string& message) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(message.data()),
       message.size(), out, &size);
  return std::string(reinterpret_cast<const char*>(out), size);
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// A quoted string at the start of `text`; what was read is cut off. C escapes are undone.
Result<std::string> unquote(std::string_view& text) {
  std::string out;
  std::size_t at = 1;
  while (at < text.size() && text[at] != '"') {
    if (text[at] != '\\') {
      out += text[at++];
      continue;
    }
    if (++at == text.size()) break;
    char c = text[at];
    if (c >= '0' && c <= '7') {
      int value = 0;
      for (int digits = 0; digits < 3 && at < text.size() && text[at] >= '0' && text[at] <= '7'; ++digits, ++at)
        value = value * 8 + (text[at] - '0');
      out += static_cast<char>(value & 0xff);
      continue;
    }
    out += c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
    ++at;
  }
  if (at >= text.size()) return malformed("a quoted string does not end");
  text.remove_prefix(at + 1);
  return out;
}

std::string word_until(std::string_view& text, std::string_view ends) {
  std::size_t size = std::min(text.find_first_of(ends), text.size());
  std::string out(text.substr(0, size));
  text.remove_prefix(size);
  return out;
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::string_view> ControlReply::value(std::string_view key) const {
  for (const ControlLine& line : lines) {
    if (line.text.size() <= key.size() || line.text[key.size()] != '=' || !line.text.starts_with(key)) continue;
    if (line.data) return std::string_view(*line.data);
    return std::string_view(line.text).substr(key.size() + 1);
  }
  return std::nullopt;
}

std::string ControlReply::text() const {
  std::string out = std::to_string(status);
  if (!lines.empty()) out += " " + lines.back().text.substr(0, 200);
  return out;
}

Result<void> ControlParser::feed(std::string_view bytes) {
  if (broken_) return malformed("the conversation is broken");
  rest_ += bytes;
  std::size_t begin = 0;
  for (std::size_t end; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    std::string_view text = std::string_view(rest_).substr(begin, end - begin);
    if (text.ends_with('\r')) text.remove_suffix(1);
    auto taken = line(text);
    broken_ = !taken;
    if (!taken) return taken;
  }
  rest_.erase(0, begin);
  broken_ = rest_.size() > line_limit;
  if (broken_) return Error(errc::too_large, "tor: a line of a reply is too long");
  return {};
}

Result<void> ControlParser::line(std::string_view text) {
  size_ += text.size() + 1;
  if (size_ > reply_limit || text.size() > line_limit) return Error(errc::too_large, "tor: a reply is too long");
  if (!in_data_) return head(text);
  if (text == ".") {
    in_data_ = false;
    return {};
  }
  if (text.starts_with('.')) text.remove_prefix(1);
  std::string& data = *open_.lines.back().data;
  data += text;
  data += '\n';
  return {};
}

Result<void> ControlParser::head(std::string_view text) {
  bool formed = text.size() >= 4 && is_digit(text[0]) && is_digit(text[1]) && is_digit(text[2]) &&
                (text[3] == '-' || text[3] == '+' || text[3] == ' ');
  if (!formed) return malformed("not a reply: " + std::string(text.substr(0, 60)));
  int status = (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
  if (status < 200) return malformed("a status of " + std::string(text.substr(0, 3)));
  bool inside = !open_.lines.empty();
  if (inside && (open_.status >= 600) != (status >= 600)) return malformed("an event inside a reply");
  open_.status = status;
  ControlLine& added = open_.lines.emplace_back();
  added.text = text.substr(4);
  if (text[3] == '+') {
    in_data_ = true;
    added.data.emplace();
  }
  if (text[3] != ' ') return {};
  ready_.push_back(std::move(open_));
  open_ = ControlReply();
  size_ = 0;
  return {};
}

std::optional<ControlReply> ControlParser::next() {
  if (ready_.empty()) return std::nullopt;
  ControlReply out = std::move(ready_.front());
  ready_.pop_front();
  return out;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

Result<ControlWords> ControlWords::parse(std::string_view line) {
  ControlWords out;
  while (!line.empty()) {
    if (line.front() == ' ') {
      line.remove_prefix(1);
      continue;
    }
    if (line.front() == '"') {
      TRY_PLAIN(std::string text, unquote(line));
      out.plain.push_back(std::move(text));
      continue;
    }
    std::string word = word_until(line, " =");
    if (line.empty() || line.front() == ' ' || word.empty() || word.front() == '$') {
      word += word_until(line, " ");
      out.plain.push_back(std::move(word));
      continue;
    }
    line.remove_prefix(1);
    if (line.starts_with('"')) {
      TRY_PLAIN(std::string text, unquote(line));
      out.keyed[word] = std::move(text);
    } else {
      out.keyed[word] = word_until(line, " ");
    }
  }
  return out;
}

std::string_view ControlWords::operator[](std::string_view key) const {
  auto it = keyed.find(key);
  return it == keyed.end() ? std::string_view() : std::string_view(it->second);
}

std::string_view ControlWords::at(std::size_t index) const {
  return index < plain.size() ? std::string_view(plain[index]) : std::string_view();
}

Result<ProtocolInfo> ProtocolInfo::parse(const ControlReply& reply) {
  if (!reply.ok()) return malformed("PROTOCOLINFO: " + reply.text());
  ProtocolInfo out;
  bool known = false;
  for (const ControlLine& line : reply.lines) {
    TRY_PLAIN(ControlWords words, ControlWords::parse(line.text));
    if (words.at(0) == "PROTOCOLINFO") known = words.at(1) == "1";
    if (words.at(0) == "VERSION") out.tor_version = words["Tor"];
    if (words.at(0) != "AUTH") continue;
    out.cookie_file = words["COOKIEFILE"];
    std::string_view methods = words["METHODS"];
    while (!methods.empty()) {
      out.methods.push_back(word_until(methods, ","));
      if (!methods.empty()) methods.remove_prefix(1);
    }
  }
  if (!known || out.tor_version.empty()) return malformed("PROTOCOLINFO of an unknown form");
  return out;
}

bool ProtocolInfo::offers(std::string_view method) const {
  return std::find(methods.begin(), methods.end(), method) != methods.end();
}

std::string SafeCookie::challenge() const {
  return "AUTHCHALLENGE SAFECOOKIE " + hex(nonce_);
}

Result<std::string> SafeCookie::authenticate(const ControlReply& answer) const {
  if (cookie_.size() != cookie_size) return Error(errc::tor_authentication, "the cookie is not 32 bytes long");
  if (!answer.ok() || answer.lines.empty()) return Error(errc::tor_authentication, answer.text());
  TRY_PLAIN(ControlWords words, ControlWords::parse(answer.lines.back().text));
  auto hash = from_hex(words["SERVERHASH"]);
  auto server_nonce = from_hex(words["SERVERNONCE"]);
  if (words.at(0) != "AUTHCHALLENGE" || !hash || hash->size() != hash_size || !server_nonce || server_nonce->empty())
    return malformed("AUTHCHALLENGE of an unknown form");
  std::string message = cookie_ + nonce_ + *server_nonce;
  std::string expected = hmac(server_key, message);
  if (CRYPTO_memcmp(expected.data(), hash->data(), hash_size) != 0)
    return Error(errc::tor_authentication, "the control socket does not know the cookie");
  return "AUTHENTICATE " + hex(hmac(controller_key, message));
}

std::vector<int> tor_version(std::string_view text) {
  if (text.starts_with("Tor ")) text.remove_prefix(4);
  if (text.starts_with("version ")) text.remove_prefix(8);
  std::vector<int> out;
  while (!text.empty() && is_digit(text.front()) && out.size() < 4) {
    std::size_t size = 0;
    while (size < text.size() && size < 9 && is_digit(text[size])) ++size;
    out.push_back(*number(text.substr(0, size)));
    text.remove_prefix(size);
    if (!text.starts_with('.')) break;
    text.remove_prefix(1);
  }
  if (out.size() < 3) out.clear();
  return out;
}

Result<CircuitLine> CircuitLine::parse(std::string_view line) {
  TRY_PLAIN(ControlWords words, ControlWords::parse(line));
  if (words.plain.size() < 2) return malformed("a circuit without id or status");
  CircuitLine out;
  out.id = words.plain[0];
  out.status = words.plain[1];
  out.purpose = words["PURPOSE"];
  out.time_created = words["TIME_CREATED"];
  out.conflux = words["CONFLUX_ID"];
  out.reason = words["REASON"];
  std::string_view path = words.at(2);
  while (!path.empty()) {
    std::string hop = word_until(path, ",");
    if (!path.empty()) path.remove_prefix(1);
    if (hop.size() <= fingerprint_size || hop[0] != '$') return malformed("a hop without a fingerprint");
    std::string_view nickname = std::string_view(hop).substr(fingerprint_size + 1);
    if (!nickname.empty()) nickname.remove_prefix(1);
    out.path.emplace_back(hop.substr(1, fingerprint_size), std::string(nickname));
  }
  return out;
}

Result<StreamLine> StreamLine::parse(std::string_view line) {
  // By position: the target is a name that a device has chosen.
  std::string head[4];
  for (std::string& word : head) {
    word = word_until(line, " ");
    if (word.empty()) return malformed("a stream without id, status, circuit or target");
    if (!line.empty()) line.remove_prefix(1);
  }
  TRY_PLAIN(ControlWords words, ControlWords::parse(line));
  StreamLine out;
  out.id = head[0];
  out.status = head[1];
  out.circuit = head[2] == "0" ? "" : head[2];
  std::string_view source = words["SOURCE_ADDR"];
  std::size_t colon = source.rfind(':');
  if (colon == std::string_view::npos) return out;
  source = source.substr(0, colon);
  if (source.starts_with('[') && source.ends_with(']')) source = source.substr(1, source.size() - 2);
  out.source = source;
  return out;
}

Result<BootstrapLine> BootstrapLine::parse(std::string_view line) {
  TRY_PLAIN(ControlWords words, ControlWords::parse(line));
  auto percent = number(words["PROGRESS"]);
  if (words.at(1) != "BOOTSTRAP" || !percent || *percent < 0 || *percent > 100)
    return malformed("a bootstrap phase of an unknown form");
  BootstrapLine out;
  out.warning = words.at(0) != "NOTICE";
  out.percent = *percent;
  out.tag = words["TAG"];
  out.summary = words["SUMMARY"];
  out.problem = words["WARNING"];
  return out;
}

}  // namespace tornado::inline v1
