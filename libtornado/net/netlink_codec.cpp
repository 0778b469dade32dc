#include "net/netlink_codec.hpp"

#include <arpa/inet.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

Error malformed(const char* what) {
  return Error(errc::protocol_error, std::string("netlink: ") + what);
}

template <class T>
T read(std::string_view bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// The attributes of an acknowledgement lie behind the request, which is there in full unless the answer is capped.
std::string ack_text(std::string_view bytes) {
  auto attributes = NetlinkAttributes::parse(bytes);
  if (!attributes) return {};
  return attributes->text(NLMSGERR_ATTR_MSG).value_or(std::string());
}

errc code_of(int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return errc::permission_denied;
    case ENODEV:
    case ENXIO:
      return errc::interface_missing;
    default:
      return errc::backend_failed;
  }
}

}  // namespace

NetlinkWriter::NetlinkWriter(std::uint16_t type, std::uint16_t flags, std::size_t room) {
  bytes_.reserve(room);
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST);
  fixed(header);
}

NetlinkWriter& NetlinkWriter::raw(const void* data, std::size_t size) {
  bytes_.append(static_cast<const char*>(data), size);
  bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  return *this;
}

NetlinkWriter& NetlinkWriter::put(std::uint16_t type, std::string_view value) {
  nlattr attribute{};
  attribute.nla_type = type;
  attribute.nla_len = static_cast<std::uint16_t>(NLA_HDRLEN + value.size());
  fixed(attribute);
  return raw(value.data(), value.size());
}

NetlinkWriter& NetlinkWriter::put_text(std::uint16_t type, const std::string& text) {
  return put(type, std::string_view(text.c_str(), text.size() + 1));
}

NetlinkWriter& NetlinkWriter::put_u8(std::uint16_t type, std::uint8_t value) {
  return put(type, std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
}

NetlinkWriter& NetlinkWriter::put_u16(std::uint16_t type, std::uint16_t value) {
  return put(type, std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
}

NetlinkWriter& NetlinkWriter::put_u32(std::uint16_t type, std::uint32_t value) {
  return put(type, std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
}

NetlinkWriter& NetlinkWriter::put_be32(std::uint16_t type, std::uint32_t value) {
  return put_u32(type, htonl(value));
}

std::size_t NetlinkWriter::open(std::uint16_t type) {
  std::size_t at = bytes_.size();
  put(static_cast<std::uint16_t>(type | NLA_F_NESTED), {});
  return at;
}

void NetlinkWriter::close(std::size_t nest) {
  auto length = static_cast<std::uint16_t>(bytes_.size() - nest);
  std::memcpy(bytes_.data() + nest, &length, sizeof length);
}

std::string NetlinkWriter::take() {
  auto length = static_cast<std::uint32_t>(bytes_.size());
  std::memcpy(bytes_.data(), &length, sizeof length);
  return std::move(bytes_);
}

Result<std::vector<NetlinkMessage>> split_netlink(std::string_view datagram) {
  std::vector<NetlinkMessage> out;
  while (!datagram.empty()) {
    if (datagram.size() < NLMSG_HDRLEN) return malformed("truncated header");
    auto header = read<nlmsghdr>(datagram, 0);
    if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > datagram.size()) return malformed("impossible length");
    NetlinkMessage message;
    message.type = header.nlmsg_type;
    message.flags = header.nlmsg_flags;
    message.sequence = header.nlmsg_seq;
    message.port = header.nlmsg_pid;
    message.payload = datagram.substr(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
    out.push_back(std::move(message));
    datagram.remove_prefix(std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), datagram.size()));
  }
  return out;
}

bool AttributeWalk::next() noexcept {
  if (rest_.empty() || wrong_ != nullptr) return false;
  if (rest_.size() < NLA_HDRLEN) {
    wrong_ = "truncated attribute";
    return false;
  }
  auto header = read<nlattr>(rest_, 0);
  if (header.nla_len < NLA_HDRLEN || header.nla_len > rest_.size()) {
    wrong_ = "impossible length of an attribute";
    return false;
  }
  type_ = header.nla_type & NLA_TYPE_MASK;
  value_ = rest_.substr(NLA_HDRLEN, header.nla_len - NLA_HDRLEN);
  rest_.remove_prefix(std::min<std::size_t>(NLA_ALIGN(header.nla_len), rest_.size()));
  return true;
}

Result<void> AttributeWalk::outcome() const {
  if (wrong_ != nullptr) return malformed(wrong_);
  return {};
}

Result<NetlinkAttributes> NetlinkAttributes::parse(std::string_view bytes) {
  NetlinkAttributes out;
  AttributeWalk walk(bytes);
  while (walk.next()) out.all_.emplace_back(walk.type(), walk.value());
  TRY_VOID_PLAIN(walk.outcome());
  return out;
}

Result<NetlinkAttributes> NetlinkAttributes::after(const NetlinkMessage& message, std::size_t header) {
  if (message.payload.size() < header) return malformed("truncated message");
  return parse(
      std::string_view(message.payload).substr(std::min<std::size_t>(NLMSG_ALIGN(header), message.payload.size())));
}

std::optional<std::string_view> NetlinkAttributes::find(std::uint16_t type) const noexcept {
  for (const auto& [key, value] : all_)
    if (key == type) return value;
  return std::nullopt;
}

std::optional<std::uint16_t> NetlinkAttributes::u16(std::uint16_t type) const noexcept {
  auto value = find(type);
  if (!value || value->size() != sizeof(std::uint16_t)) return std::nullopt;
  return read<std::uint16_t>(*value, 0);
}

std::optional<std::uint32_t> NetlinkAttributes::u32(std::uint16_t type) const noexcept {
  auto value = find(type);
  if (!value || value->size() != sizeof(std::uint32_t)) return std::nullopt;
  return read<std::uint32_t>(*value, 0);
}

std::optional<std::uint32_t> NetlinkAttributes::be32(std::uint16_t type) const noexcept {
  auto value = u32(type);
  return value ? std::optional(ntohl(*value)) : std::nullopt;
}

std::optional<std::string> NetlinkAttributes::text(std::uint16_t type) const {
  auto value = find(type);
  if (!value) return std::nullopt;
  return std::string(value->substr(0, value->find('\0')));
}

Result<NetlinkAck> decode_ack(const NetlinkMessage& message) {
  std::string_view bytes = message.payload;
  NetlinkAck out;
  std::size_t tail = sizeof(int);
  if (bytes.size() < sizeof(int)) {
    if (message.type == NLMSG_DONE && bytes.empty()) return out;
    return malformed("truncated acknowledgement");
  }
  std::int64_t error = read<int>(bytes, 0);
  out.error = error < 0 && error > -4096 ? static_cast<int>(-error) : (error == 0 ? 0 : EPROTO);
  if (message.type == NLMSG_DONE && error > 0) out.error = 0;  // some dumps count what they sent
  if (message.type == NLMSG_ERROR) {
    if (bytes.size() < sizeof(nlmsgerr)) return malformed("truncated acknowledgement");
    auto request = read<nlmsgerr>(bytes, 0).msg;
    bool whole = out.error != 0 && (message.flags & NLM_F_CAPPED) == 0 && request.nlmsg_len > NLMSG_HDRLEN;
    tail = sizeof(nlmsgerr) + (whole ? NLMSG_ALIGN(request.nlmsg_len - NLMSG_HDRLEN) : 0);
  }
  if ((message.flags & NLM_F_ACK_TLVS) != 0 && tail < bytes.size()) out.text = ack_text(bytes.substr(tail));
  return out;
}

Result<void> NetlinkReply::check(std::string_view what, std::initializer_list<int> tolerated) const {
  if (ack.error == 0 || std::find(tolerated.begin(), tolerated.end(), ack.error) != tolerated.end()) return {};
  std::string detail = std::string(what) + ": " + std::strerror(ack.error);
  if (!ack.text.empty()) detail += " (" + ack.text + ")";
  return Error(code_of(ack.error), std::move(detail));
}

Result<void> NetlinkExchange::take(NetlinkMessage message) {
  if (message.sequence - first_ > last_ - first_) return {};
  if ((message.flags & NLM_F_DUMP_INTR) != 0) interrupted_ = true;
  if (message.type == NLMSG_NOOP) return {};
  if (message.type == NLMSG_OVERRUN) return malformed("overrun");
  if (message.type != NLMSG_ERROR && message.type != NLMSG_DONE) {
    if (keep_ == Keep::last) reply_.messages.clear();
    reply_.messages.push_back(std::move(message));
    return {};
  }
  TRY_PLAIN(NetlinkAck ack, decode_ack(message));
  if (reply_.ack.error == 0) reply_.ack = ack;
  // The answers of a batch come in order; an error about its first message means that it failed as a whole.
  complete_ = complete_ || message.sequence == last_ || (message.sequence == first_ && ack.error != 0);
  return {};
}

NetlinkReply NetlinkExchange::take_reply() {
  if (interrupted_) reply_.ack.error = EINTR;
  return std::move(reply_);
}

}  // namespace tornado::inline v1
