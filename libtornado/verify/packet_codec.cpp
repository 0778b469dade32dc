#include "verify/packet_codec.hpp"

#include <netinet/in.h>

#include "base/encoding.hpp"
#include "base/uuid.hpp"

namespace tornado::inline v1::verify {
namespace {

constexpr std::size_t token_size = 16;
constexpr std::uint16_t first_port = 20000, echo_id = 0x7476;
constexpr std::uint32_t first_sequence = 0x54560000;
constexpr std::size_t fragment_size = 800;  // of the body, a multiple of 8
constexpr std::uint8_t loose_source_route = 131, fragment_header = 44;
constexpr std::uint8_t time_to_live = 64;

void put16(std::string& out, std::uint32_t value) {
  out += static_cast<char>(value >> 8 & 255);
  out += static_cast<char>(value & 255);
}
void put32(std::string& out, std::uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}
std::uint32_t byte(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}
std::uint32_t get16(std::string_view text, std::size_t at) {
  return byte(text, at) << 8 | byte(text, at + 1);
}
std::uint32_t get32(std::string_view text, std::size_t at) {
  return get16(text, at) << 16 | get16(text, at + 2);
}

/// RFC 1071.
std::uint32_t sum_of(std::string_view text, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < text.size(); i += 2) sum += i + 1 < text.size() ? get16(text, i) : byte(text, i) << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

void set16(std::string& out, std::size_t at, std::uint32_t value) {
  out[at] = static_cast<char>(value >> 8 & 255);
  out[at + 1] = static_cast<char>(value & 255);
}

/// Fills in the checksum at `at`, over the body and the pseudo header.
void finish(std::string& body, std::size_t at, const Address& from, const Address& to, std::uint8_t protocol) {
  std::string pseudo(from.bytes());
  pseudo += to.bytes();
  put32(pseudo, static_cast<std::uint32_t>(body.size()));
  put32(pseudo, protocol);
  std::uint32_t sum = ~sum_of(body, sum_of(pseudo)) & 0xffff;
  set16(body, at, protocol == IPPROTO_UDP && sum == 0 ? 0xffff : sum);
}

std::string dns_query(const std::string& label) {
  std::string out;
  for (std::uint32_t word : {0x7476, 0x0100, 1, 0, 0, 0}) put16(out, word);
  for (const std::string& part : {label, std::string("example"), std::string("com")})
    out += static_cast<char>(part.size()) + part;
  out += '\0';
  put16(out, 1);
  put16(out, 1);
  return out;
}

std::string filled(const std::string& text, std::size_t length) {
  std::string out;
  while (out.size() < length) out += text;
  return out;
}

bool is_dns(const Probe& probe) {
  return probe.protocol == IPPROTO_UDP &&
         (probe.port == 53 || probe.name.starts_with("tor_dns") || probe.name.starts_with("responder"));
}

std::string tcp_header(const Probe& probe, std::size_t number, std::uint32_t sequence, std::uint32_t acknowledged,
                       std::uint8_t flags) {
  std::string out;
  put16(out, source_port(number));
  put16(out, probe.port);
  put32(out, sequence);
  put32(out, acknowledged);
  out += '\x50';
  out += static_cast<char>(flags);
  put16(out, 0xffff);
  put32(out, 0);
  return out;
}

std::string transport(const Probe& probe, std::size_t number, const Marker& marker) {
  const std::string mark = marker.text(number);
  std::string payload = is_dns(probe) ? dns_query(mark) : filled(mark, probe.length), out;
  switch (probe.protocol) {
    case IPPROTO_UDP:
      put16(out, source_port(number));
      put16(out, probe.port);
      put16(out, static_cast<std::uint32_t>(8 + payload.size()));
      put16(out, 0);
      out += payload;
      finish(out, 6, probe.from, probe.to, probe.protocol);
      return out;
    case IPPROTO_TCP:
      // A SYN may carry data (RFC 9293 3.4); who does not want it ignores it.
      out = tcp_header(probe, number, first_sequence, 0, tcp_syn) + payload;
      finish(out, 16, probe.from, probe.to, probe.protocol);
      return out;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      put16(out, probe.v6() ? 0x8000 : 0x0800);
      put32(out, static_cast<std::uint32_t>(source_port(number)));
      put16(out, 0);
      out += payload;
      if (probe.v6())
        finish(out, 2, probe.from, probe.to, probe.protocol);
      else
        set16(out, 2, ~sum_of(out));
      return out;
    case IPPROTO_SCTP:
      put16(out, source_port(number));
      put16(out, 7000);
      return out + std::string(8, '\0') + payload;
    case IPPROTO_GRE:
      return std::string("\0\0\x08\0", 4) + payload;
    default:
      return payload;
  }
}

std::string header4(const Address& from, const Address& to, std::uint8_t protocol, std::size_t body,
                    std::uint32_t fragment, std::string_view options) {
  std::string out;
  out += static_cast<char>(0x40 | (20 + options.size()) / 4);
  out += '\0';
  put16(out, static_cast<std::uint32_t>(20 + options.size() + body));
  put16(out, 0x7476);
  put16(out, fragment);
  out += static_cast<char>(time_to_live);
  out += static_cast<char>(protocol);
  put16(out, 0);
  out += from.bytes();
  out += to.bytes();
  out += options;
  set16(out, 10, ~sum_of(out));
  return out;
}

std::string header6(const Address& from, const Address& to, std::uint8_t next, std::size_t body) {
  std::string out;
  put32(out, 0x60000000);
  put16(out, static_cast<std::uint32_t>(body));
  out += static_cast<char>(next);
  out += static_cast<char>(time_to_live);
  out += from.bytes();
  out += to.bytes();
  return out;
}

std::string whole(const Address& from, const Address& to, std::uint8_t protocol, const std::string& body) {
  if (to.is_v4()) return header4(from, to, protocol, body.size(), 0, {}) + body;
  return header6(from, to, protocol, body.size()) + body;
}

std::vector<std::string> fragments(const Probe& probe, const std::string& body) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < body.size(); at += fragment_size) {
    std::string part = body.substr(at, fragment_size);
    bool more = at + part.size() < body.size();
    if (!probe.v6()) {
      auto field = static_cast<std::uint32_t>(at / 8) | (more ? 0x2000U : 0);
      out.push_back(header4(probe.from, probe.to, probe.protocol, part.size(), field, {}) + part);
      continue;
    }
    std::string extension;
    extension += static_cast<char>(probe.protocol);
    extension += '\0';
    put16(extension, static_cast<std::uint32_t>(at) | (more ? 1U : 0));
    put32(extension, 0x74766c73);
    out.push_back(header6(probe.from, probe.to, fragment_header, part.size() + 8) + extension + part);
  }
  return out;
}

/// To the gateway, with the foreign address as the next hop of a loose source route (RFC 791).
std::string source_routed(const Probe& probe, const std::string& body, const Address& hop) {
  std::string options;
  options += static_cast<char>(loose_source_route);
  options += '\7';
  options += '\4';
  options += hop.bytes();
  options += '\0';
  return header4(probe.from, probe.to, probe.protocol, body.size(), 0, options) + body;
}

void decode_transport(std::string_view body, Seen& out) {
  if (out.protocol == IPPROTO_TCP && body.size() >= 20) {
    out.flags = static_cast<std::uint8_t>(byte(body, 13));
    out.sequence = get32(body, 4);
    out.acknowledged = get32(body, 8);
  }
  if ((out.protocol == IPPROTO_TCP || out.protocol == IPPROTO_UDP) && body.size() >= 8) {
    out.source_port = static_cast<std::uint16_t>(get16(body, 0));
    out.port = static_cast<std::uint16_t>(get16(body, 2));
  }
  if ((out.protocol == IPPROTO_ICMP || out.protocol == IPPROTO_ICMPV6) && body.size() >= 8) {
    out.type = static_cast<std::uint8_t>(byte(body, 0));
    out.echo_sequence = static_cast<std::uint16_t>(get16(body, 6));
  }
}

Address address_at(std::string_view packet, std::size_t at, bool v6) {
  if (!v6) return Address::from_v4(get32(packet, at));
  std::array<std::uint8_t, 16> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(byte(packet, at + i));
  return Address::from_v6(bytes);
}

}  // namespace

Marker Marker::random() {
  return Marker(hex(random_bytes(token_size / 2)));
}

std::string Marker::text(std::size_t probe) const {
  return token_ + hex(std::string(1, static_cast<char>(probe)));
}

std::optional<std::size_t> Marker::find(std::string_view packet) const {
  auto at = packet.find(token_);
  for (; at != packet.npos; at = packet.find(token_, at + 1)) {
    auto number = from_hex(packet.substr(std::min(at + token_.size(), packet.size()), 2));
    if (number && number->size() == 1) return byte(*number, 0);
  }
  return std::nullopt;
}

std::uint16_t source_port(std::size_t probe) noexcept {
  return static_cast<std::uint16_t>(first_port + probe);
}

std::vector<std::string> encode(const Probe& probe, std::size_t number, const Marker& marker) {
  std::string body = transport(probe, number, marker);
  if (probe.shape == Shape::fragments) return fragments(probe, body);
  if (probe.shape == Shape::source_route && probe.hop) return {source_routed(probe, body, *probe.hop)};
  return {whole(probe.from, probe.to, probe.protocol, body)};
}

std::string tcp_segment(const Probe& probe, std::size_t number, std::uint32_t sequence, std::uint32_t acknowledged,
                        std::uint8_t flags) {
  std::string body = tcp_header(probe, number, sequence, acknowledged, flags);
  finish(body, 16, probe.from, probe.to, IPPROTO_TCP);
  return whole(probe.from, probe.to, IPPROTO_TCP, body);
}

std::string encode_echo(const Address& from, const Address& to, std::uint16_t sequence) {
  std::string body;
  put32(body, to.is_v4() ? 0x08000000 : 0x80000000);
  put16(body, echo_id);
  put16(body, sequence);
  if (to.is_v4())
    set16(body, 2, ~sum_of(body));
  else
    finish(body, 2, from, to, IPPROTO_ICMPV6);
  return whole(from, to, to.is_v4() ? std::uint8_t{IPPROTO_ICMP} : std::uint8_t{IPPROTO_ICMPV6}, body);
}

std::optional<Seen> decode(std::string_view packet) {
  Seen out;
  if (packet.empty()) return std::nullopt;
  bool v6 = byte(packet, 0) >> 4 == 6;
  if (!v6 && byte(packet, 0) >> 4 != 4) return std::nullopt;
  std::size_t header = v6 ? 40 : (byte(packet, 0) & 15) * 4;
  if (header < 20 || packet.size() < header) return std::nullopt;
  out.from = address_at(packet, v6 ? 8 : 12, v6);
  out.to = address_at(packet, v6 ? 24 : 16, v6);
  out.protocol = static_cast<std::uint8_t>(byte(packet, v6 ? 6 : 9));
  bool later_fragment = !v6 && (get16(packet, 6) & 0x1fff) != 0;
  if (!later_fragment) decode_transport(packet.substr(header), out);
  return out;
}

std::string Seen::str() const {
  static constexpr std::pair<int, std::string_view> names[] = {
      {IPPROTO_ICMP, "ICMP"}, {IPPROTO_TCP, "TCP"},       {IPPROTO_UDP, "UDP"},         {IPPROTO_GRE, "GRE"},
      {IPPROTO_SCTP, "SCTP"}, {IPPROTO_ICMPV6, "ICMPv6"}, {fragment_header, "fragment"}};
  std::string kind = "protocol " + std::to_string(protocol);
  for (const auto& [number, name] : names)
    if (number == protocol) kind = name;
  std::string where = port != 0 ? Endpoint(to, port).str() : to.str();
  return kind + " " + from.str() + " -> " + where;
}

}  // namespace tornado::inline v1::verify
