#include "dns/dns_codec.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace tornado::inline v1 {
namespace {

constexpr std::size_t header_size = 12, most_name = 255, most_label = 63;
constexpr std::uint16_t is_response = 0x8000, is_truncated = 0x0200, recursion_desired = 0x0100,
                        recursion_available = 0x0080;
constexpr std::uint16_t our_udp_size = 1232;
constexpr char name_of_question[] = "\xc0\x0c";

void put16(std::string& out, std::uint32_t value) {
  out.push_back(static_cast<char>(value >> 8 & 0xff));
  out.push_back(static_cast<char>(value & 0xff));
}

void put32(std::string& out, std::uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}

void append_label(std::string& out, std::string_view label) {
  for (char raw : label) {
    auto octet = static_cast<unsigned char>(raw);
    bool upper = octet >= 'A' && octet <= 'Z';
    bool plain = upper || (octet >= 'a' && octet <= 'z') || (octet >= '0' && octet <= '9') || raw == '-' || raw == '_';
    if (plain) {
      out.push_back(upper ? static_cast<char>(octet + ('a' - 'A')) : raw);
    } else {
      out.push_back('\\');
      for (int unit : {100, 10, 1}) out.push_back(static_cast<char>('0' + octet / unit % 10));
    }
  }
}

/// Reads a message front to back. Whatever does not fit leaves it failed, and every later read fails as well.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  bool failed() const { return failed_; }
  bool at_end() const { return at_ == bytes_.size(); }
  std::size_t position() const { return at_; }

  std::uint16_t u16() {
    std::string_view raw = take(2);
    return failed_ ? std::uint16_t(0) : static_cast<std::uint16_t>(octet(raw, 0) << 8 | octet(raw, 1));
  }
  std::uint32_t u32() {
    std::uint32_t high = u16();
    return high << 16 | u16();
  }
  std::string_view take(std::size_t size) {
    if (failed_ || bytes_.size() - at_ < size) {
      failed_ = true;
      return {};
    }
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  /// A name without compression, in the form of DnsQuery::name.
  std::string name() {
    std::string out;
    for (std::size_t size = 0;;) {
      std::size_t length = octet(take(1), 0);
      std::string_view label = take(length);
      size += 1 + length;
      if (length > most_label || size > most_name) failed_ = true;
      if (failed_) return {};
      if (length == 0) return out;
      if (!out.empty()) out.push_back('.');
      append_label(out, label);
    }
  }

  /// Passes a name that may end in a pointer; true if it is the root. Nobody needs the names of records, so pointers
  /// are looked at and never followed.
  bool skip_name() {
    const std::size_t begin = at_;
    for (;;) {
      std::size_t length = octet(take(1), 0);
      if (failed_ || length == 0) return at_ == begin + 1;
      if (length > most_label) {
        std::size_t target = (length & 0x3f) << 8 | octet(take(1), 0);
        if ((length & 0xc0) != 0xc0 || target >= begin || target < header_size) failed_ = true;
        return false;
      }
      (void)take(length);
      if (at_ - begin >= most_name) failed_ = true;
    }
  }

 private:
  static std::uint8_t octet(std::string_view raw, std::size_t i) {
    return i < raw.size() ? static_cast<std::uint8_t>(raw[i]) : std::uint8_t(0);
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

struct Header {
  std::uint16_t id = 0, flags = 0, questions = 0, answers = 0, authorities = 0, additionals = 0;
};

std::optional<Header> read_header(Reader& in) {
  Header out;
  for (std::uint16_t* field : {&out.id, &out.flags, &out.questions, &out.answers, &out.authorities, &out.additionals})
    *field = in.u16();
  if (in.failed()) return std::nullopt;
  return out;
}

struct Record {
  bool of_root = false;
  std::uint16_t type = 0, klass = 0;
  std::uint32_t ttl = 0;
  std::string_view data;
};

Record read_record(Reader& in) {
  Record out;
  out.of_root = in.skip_name();
  out.type = in.u16();
  out.klass = in.u16();
  out.ttl = in.u32();
  out.data = in.take(in.u16());
  return out;
}

/// What comes after the question of a query: usually nothing, or the OPT record of EDNS.
DnsCode read_rest(Reader& in, const Header& header, DnsQuery& out) {
  const std::uint32_t before = std::uint32_t(header.answers) + header.authorities, all = before + header.additionals;
  for (std::uint32_t i = 0; i < all; ++i) {
    Record record = read_record(in);
    if (in.failed()) return DnsCode::form_error;
    if (record.type != dns::type_opt) continue;
    if (i < before || out.edns || !record.of_root) return DnsCode::form_error;
    out.edns = true;
    if ((record.ttl >> 16 & 0xff) != 0) return DnsCode::bad_version;
  }
  return in.at_end() ? DnsCode::no_error : DnsCode::form_error;
}

std::string respond(const DnsQuery& query, DnsCode code, const std::vector<std::string_view>& records,
                    std::uint32_t ttl) {
  const auto number = static_cast<std::uint32_t>(code);
  std::string out;
  out.reserve(header_size + query.question.size() + records.size() * 28 + 11);
  put16(out, query.id);
  put16(out, is_response | std::uint32_t(query.opcode) << 11 | (query.recursion_desired ? recursion_desired : 0) |
                 recursion_available | (number & 15));
  put16(out, query.question.empty() ? 0 : 1);
  put16(out, static_cast<std::uint32_t>(records.size()));
  put16(out, 0);
  put16(out, query.edns ? 1 : 0);
  out.append(query.question);
  for (std::string_view data : records) {
    out.append(name_of_question, 2);
    put16(out, query.type);
    put16(out, dns::class_in);
    put32(out, ttl);
    put16(out, static_cast<std::uint32_t>(data.size()));
    out.append(data);
  }
  if (query.edns) {
    out.push_back('\0');
    put16(out, dns::type_opt);
    put16(out, our_udp_size);
    put32(out, number >> 4 << 24);
    put16(out, 0);
  }
  return out;
}

}  // namespace

namespace dns {

Result<DnsQuery> parse_query(std::string_view bytes) {
  Reader in(bytes);
  auto header = read_header(in);
  if (!header) return Error(errc::protocol_error, "less than a header");
  if (header->flags & is_response) return Error(errc::protocol_error, "a response");
  DnsQuery out;
  out.id = header->id;
  out.opcode = header->flags >> 11 & 15;
  out.recursion_desired = header->flags & recursion_desired;
  if (out.opcode != 0) {
    out.problem = DnsCode::not_implemented;
    return out;
  }
  out.problem = DnsCode::form_error;
  if (header->questions != 1) return out;
  std::string name = in.name();
  std::uint16_t type = in.u16(), klass = in.u16();
  if (in.failed()) return out;
  out.name = std::move(name);
  out.type = type;
  out.klass = klass;
  out.question = bytes.substr(header_size, in.position() - header_size);
  out.problem = read_rest(in, *header, out);
  return out;
}

std::string answer(const DnsQuery& query, const std::vector<Address>& addresses, std::uint32_t ttl) {
  std::vector<std::string_view> records;
  const bool v4 = query.type == type_a;
  for (const Address& address : addresses) {
    if (!v4 && query.type != type_aaaa) break;
    if (address.is_v4() == v4 && records.size() < most_addresses) records.push_back(address.bytes());
  }
  return respond(query, DnsCode::no_error, records, ttl);
}

std::string refuse(const DnsQuery& query, DnsCode code) {
  return respond(query, code, {}, 0);
}

std::string query(std::uint16_t id, std::string_view name, std::uint16_t type) {
  if (name.ends_with('.')) name.remove_suffix(1);
  std::string out;
  put16(out, id);
  put16(out, recursion_desired);
  put16(out, 1);
  out.append(6, '\0');
  if (name.empty() || name.size() > most_name - 2) return {};
  while (!name.empty()) {
    std::string_view label = name.substr(0, name.find('.'));
    if (label.empty() || label.size() > most_label || label.size() + 1 == name.size()) return {};
    out.push_back(static_cast<char>(label.size()));
    out.append(label);
    name.remove_prefix(std::min(name.size(), label.size() + 1));
  }
  out.push_back('\0');
  put16(out, type);
  put16(out, class_in);
  return out;
}

Result<DnsAnswer> parse_answer(std::string_view bytes) {
  Reader in(bytes);
  auto header = read_header(in);
  if (!header) return Error(errc::protocol_error, "less than a header");
  if (!(header->flags & is_response)) return Error(errc::protocol_error, "not an answer");
  DnsAnswer out;
  out.id = header->id;
  out.code = static_cast<DnsCode>(header->flags & 15);
  out.truncated = header->flags & is_truncated;
  if (header->questions > 1) return Error(errc::protocol_error, "more than one question");
  if (header->questions == 1) {
    out.name = in.name();
    (void)in.u32();
    if (in.failed()) return Error(errc::protocol_error, "malformed question");
  }
  for (int i = 0; i < header->answers; ++i) {
    Record record = read_record(in);
    if (in.failed()) return Error(errc::protocol_error, "malformed record");
    if (record.klass != class_in) continue;
    if (record.type == type_a) {
      if (record.data.size() != 4) return Error(errc::protocol_error, "an address of the wrong size");
      std::uint32_t v4 = 0;
      for (char raw : record.data) v4 = v4 << 8 | static_cast<std::uint8_t>(raw);
      out.addresses.push_back(Address::from_v4(v4));
    } else if (record.type == type_aaaa) {
      if (record.data.size() != 16) return Error(errc::protocol_error, "an address of the wrong size");
      std::array<std::uint8_t, 16> v6{};
      std::copy(record.data.begin(), record.data.end(), v6.begin());
      out.addresses.push_back(Address::from_v6(v6));
    }
  }
  return out;
}

}  // namespace dns

}  // namespace tornado::inline v1
