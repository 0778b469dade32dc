#include "wireguard/uapi_codec.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/encoding.hpp"
#include "base/try.hpp"
#include "wireguard/own_key.hpp"

namespace tornado::inline v1 {
namespace {

// The year 9999; later instants would not fit the formats that show them.
constexpr std::int64_t last_second = 253'402'300'799;

Error malformed(const char* what) {
  return Error(errc::protocol_error, std::string("UAPI: ") + what);
}

std::string_view text_of(const PublicKey& key) {
  return std::string_view(reinterpret_cast<const char*>(key.bytes().data()), PublicKey::size);
}

template <class Number>
std::optional<Number> number(std::string_view text, Number highest) {
  Number value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = error == std::errc() && end == text.data() + text.size() && !text.empty();
  if (!whole || value > highest) return std::nullopt;
  return value;
}

constexpr std::array<std::int8_t, 256> make_digits() {
  std::array<std::int8_t, 256> out{};
  out.fill(-1);
  for (int i = 0; i < 10; ++i) out[static_cast<std::size_t>('0' + i)] = static_cast<std::int8_t>(i);
  for (int i = 0; i < 6; ++i)
    out[static_cast<std::size_t>('a' + i)] = out[static_cast<std::size_t>('A' + i)] = static_cast<std::int8_t>(10 + i);
  return out;
}

/// Decodes a key of 64 hex digits without leaving the bytes anywhere else.
bool decode_key(std::string_view text, std::array<std::uint8_t, PublicKey::size>& out) {
  static constexpr std::array<std::int8_t, 256> digits = make_digits();
  if (text.size() != 2 * out.size()) return false;
  int wrong = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    int high = digits[static_cast<std::uint8_t>(text[2 * i])], low = digits[static_cast<std::uint8_t>(text[2 * i + 1])];
    wrong |= high | low;
    out[i] = static_cast<std::uint8_t>((high & 15) << 4 | (low & 15));
  }
  return wrong >= 0;
}

bool is_key_name(std::string_view text) {
  auto ok = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), ok);
}

/// Whether all of it is ' ' to '~'; eight characters at a time, because an answer has millions.
bool is_printable(std::string_view text) {
  constexpr std::uint64_t each = 0x0101010101010101;
  std::uint64_t wrong = 0;
  for (; text.size() >= 8; text.remove_prefix(8)) {
    std::uint64_t word;
    std::memcpy(&word, text.data(), 8);
    wrong |= word | (word + each) | (~word & (word - each * ' '));
  }
  for (char c : text) wrong |= c >= ' ' && c <= '~' ? 0 : each * 0x80;
  return (wrong & each * 0x80) == 0;
}

/// The zone of a link-local address is nobody's concern here.
Result<Endpoint> parse_endpoint(std::string_view text) {
  const std::size_t zone = text.find('%'), end = text.find(']');
  if (zone >= end || end == text.npos) return Endpoint::parse(text);
  return Endpoint::parse(std::string(text.substr(0, zone)).append(text.substr(end)));
}

/// In place, where there is room: nothing is left behind elsewhere.
void append_secret(std::string& out, const Secret& secret) {
  constexpr std::string_view digits = "0123456789abcdef";
  for (char c : secret.reveal()) {
    out += digits[static_cast<std::uint8_t>(c) >> 4];
    out += digits[static_cast<std::uint8_t>(c) & 15];
  }
}

/// What the next peers of a request take at most, so that no text with a preshared key is moved.
std::size_t room_for(const std::vector<Peer>& peers, std::size_t from) {
  constexpr std::size_t keys_and_flags = 256, allowed_line = 64;
  std::size_t out = keys_and_flags;
  for (std::size_t i = from; i < std::min(peers.size(), from + uapi_peers_per_request); ++i)
    out += keys_and_flags + allowed_line * peers[i].allowed.size();
  return out;
}

void append_peer(std::string& out, const Peer& peer) {
  out += "public_key=";
  out += hex(text_of(peer.key));
  if (peer.remove) {
    out += "\nremove=true\n";
    return;
  }
  if (peer.update_only) out += "\nupdate_only=true";
  if (peer.preshared) append_secret(out += "\npreshared_key=", *peer.preshared);
  out += "\nreplace_allowed_ips=true\n";
  for (const Prefix& prefix : peer.allowed) out += "allowed_ip=" + prefix.str() + "\n";
}

/// The lines about the interface itself, with room for what follows so that no copy of the key is left behind.
std::string head(const InterfaceChange& change) {
  std::string out;
  out.reserve(256);
  out += "set=1\n";
  if (change.private_key) {
    append_secret(out += "private_key=", *change.private_key);
    out += "\n";
  }
  if (change.listen_port) out += "listen_port=" + std::to_string(*change.listen_port) + "\n";
  if (change.replace_peers) out += "replace_peers=true\n";
  return out;
}

}  // namespace

std::vector<Secret> uapi_set_requests(const InterfaceChange& change) {
  std::vector<Secret> out;
  std::string text = head(change);
  if (change.private_key) {
    // A request of its own: appending peers would move the text and leave the key in freed memory.
    text += "\n";
    out.emplace_back(std::move(text));
    if (change.peers.empty()) return out;
    text = "set=1\n";
  }
  for (std::size_t i = 0; i < change.peers.size(); ++i) {
    if (i % uapi_peers_per_request == 0) text.reserve(room_for(change.peers, i));
    append_peer(text, change.peers[i]);
    if ((i + 1) % uapi_peers_per_request != 0 || i + 1 == change.peers.size()) continue;
    text += "\n";
    out.emplace_back(std::move(text));
    text = "set=1\n";
  }
  text += "\n";
  out.emplace_back(std::move(text));
  return out;
}

UapiParser::UapiParser(Want want, std::size_t expected) : want_(want) {
  partial_.reserve(max_line);
  interface_.peers.reserve(expected);
  if (expected > 0) index_.reserve(expected);
}

UapiParser::~UapiParser() {
  clear_partial();
}

void UapiParser::clear_partial() noexcept {
  OPENSSL_cleanse(partial_.data(), partial_.size());
  partial_.clear();
}

Result<void> UapiParser::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (done_) return malformed("bytes after the end of an answer");
    std::size_t end = bytes.find('\n');
    std::size_t size = std::min(end, bytes.size());
    if (partial_.size() + size > max_line) return malformed("a line is too long");
    if (end == bytes.npos) {
      partial_.append(bytes);
      return {};
    }
    if (partial_.empty()) {
      TRY_VOID_PLAIN(line(bytes.substr(0, size)));
    } else {
      partial_.append(bytes.substr(0, size));
      auto read = line(partial_);
      clear_partial();
      if (!read) return read;
    }
    bytes.remove_prefix(size + 1);
  }
  return {};
}

Result<void> UapiParser::line(std::string_view text) {
  if (text.empty()) {
    if (!ended_) return malformed("an answer ends without errno");
    done_ = true;
    return {};
  }
  if (ended_) return malformed("a line after errno");
  std::size_t equals = text.find('=');
  if (equals == text.npos) return malformed("a line without '='");
  std::string_view key = text.substr(0, equals), value = text.substr(equals + 1);
  if (!is_printable(value)) return malformed("a line with other characters");
  if (key == "errno") {
    auto status = number<long>(value, 1'000'000);
    if (!status || *status < -1'000'000) return malformed("errno");
    status_ = *status;
    ended_ = true;
    return {};
  }
  if (key == "public_key") return begin_peer(value);
  return in_peer_ ? peer_line(key, value) : interface_line(key, value);
}

Result<void> UapiParser::interface_line(std::string_view key, std::string_view value) {
  if (key == "private_key") {
    std::array<std::uint8_t, PublicKey::size> bytes{};
    bool good = decode_key(value, bytes);
    std::string_view raw(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    bool set = std::any_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte != 0; });
    auto own = good && set ? public_key_of(raw) : std::nullopt;
    OPENSSL_cleanse(bytes.data(), bytes.size());
    if (!good) return malformed("private_key");
    if (own) interface_.public_key = *own;
  } else if (key == "listen_port") {
    auto port = number<std::uint32_t>(value, 65535);
    if (!port) return malformed("listen_port");
    interface_.listen_port = static_cast<std::uint16_t>(*port);
  } else if (key == "allowed_ip" || key == "endpoint" || key == "rx_bytes" || key == "tx_bytes") {
    return malformed("a peer's line before any peer");
  } else {
    return skip(key);
  }
  return {};
}

/// A key that nobody here reads, known or not.
Result<void> UapiParser::skip(std::string_view key) {
  const bool known = key == "preshared_key" || key == "protocol_version" || key == "persistent_keepalive_interval";
  if (!known && !is_key_name(key)) return malformed("a line with other characters");
  return {};
}

Result<void> UapiParser::begin_peer(std::string_view value) {
  std::array<std::uint8_t, PublicKey::size> bytes{};
  if (!decode_key(value, bytes)) return malformed("public_key");
  PublicKey key(bytes);
  auto known = index_.find(key, [this](std::size_t at) -> const PublicKey& { return interface_.peers[at].key; });
  current_ = known.value_or(interface_.peers.size());
  if (!known) {
    if (interface_.peers.size() == max_peers) return malformed("too many peers");
    index_.insert(key, current_);
    interface_.peers.emplace_back().key = key;
  }
  in_peer_ = true;
  handshake_seconds_ = Seconds(0);
  return {};
}

/// Most peers have none, which is written as zeros.
Result<void> UapiParser::preshared(Peer& peer, std::string_view value) {
  std::array<std::uint8_t, PublicKey::size> bytes{};
  bool good = decode_key(value, bytes);
  if (good)
    peer.preshared = preshared_key_of(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return good ? Result<void>() : malformed("preshared_key");
}

Result<void> UapiParser::peer_line(std::string_view key, std::string_view value) {
  Peer& peer = interface_.peers[current_];
  constexpr std::uint64_t any = std::numeric_limits<std::uint64_t>::max();
  if (key == "allowed_ip" && want_ == Want::counters) {
    return {};
  } else if (key == "allowed_ip") {
    auto prefix = Prefix::parse(value);
    if (!prefix || ++allowed_ > max_allowed) return malformed("allowed_ip");
    peer.allowed.push_back(*prefix);
  } else if (key == "rx_bytes" || key == "tx_bytes") {
    auto bytes = number<std::uint64_t>(value, any);
    if (!bytes) return malformed("a counter");
    (key == "rx_bytes" ? peer.received : peer.sent) = *bytes;
  } else if (key == "last_handshake_time_sec") {
    auto seconds = number<std::int64_t>(value, last_second);
    if (!seconds || *seconds < 0) return malformed("last_handshake_time_sec");
    handshake_seconds_ = Seconds(*seconds);
    peer.handshake = Instant(handshake_seconds_);
  } else if (key == "last_handshake_time_nsec") {
    auto nanoseconds = number<std::int64_t>(value, 999'999'999);
    if (!nanoseconds || *nanoseconds < 0) return malformed("last_handshake_time_nsec");
    peer.handshake = Instant(handshake_seconds_ + std::chrono::milliseconds(*nanoseconds / 1'000'000));
  } else if (key == "preshared_key") {
    return preshared(peer, value);
  } else if (key == "endpoint") {
    auto endpoint = parse_endpoint(value);
    if (!endpoint) return malformed("endpoint");
    peer.endpoint = *endpoint;
  } else {
    return skip(key);
  }
  return {};
}

}  // namespace tornado::inline v1
