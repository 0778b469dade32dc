#include "verify/prober.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <sstream>

#include "base/try.hpp"

namespace tornado::inline v1::verify {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int attempts = 3;
/// Apart, so that what is lost or put right for a moment does not hide what the lane lets through.
constexpr int between_attempts_ms = 100;
constexpr int echo_every_ms = 200;
constexpr std::chrono::seconds handshake_patience{10};
/// What leaves is seen at once; what comes back from afar takes a round trip.
constexpr int late_answers_ms = 700;

std::string name_of(int interface) {
  char name[IF_NAMESIZE] = {};
  return ::if_indextoname(static_cast<unsigned>(interface), name) != nullptr ? name : std::to_string(interface);
}

/// The address this host would use towards another one.
std::optional<Address> source_towards(const Address& to) {
  Descriptor socket(::socket(to.is_v4() ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage storage{};
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
  socklen_t size = to.is_v4() ? sizeof v4 : sizeof v6;
  if (to.is_v4()) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(9);
    v4.sin_addr.s_addr = htonl(to.v4());
  } else {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(9);
    std::copy(to.bytes().begin(), to.bytes().end(), v6.sin6_addr.s6_addr);
  }
  if (!socket || ::connect(socket.get(), address, size) != 0) return std::nullopt;
  if (::getsockname(socket.get(), address, &size) != 0) return std::nullopt;
  if (to.is_v4()) return Address::from_v4(ntohl(v4.sin_addr.s_addr));
  std::array<std::uint8_t, 16> bytes;
  std::copy(std::begin(v6.sin6_addr.s6_addr), std::end(v6.sin6_addr.s6_addr), bytes.begin());
  return Address::from_v6(bytes);
}

/// Of the 32 hexadecimal digits that /proc/net has for it.
std::optional<Address> address6(const std::string& digits) {
  if (digits.size() != 32) return std::nullopt;
  std::string text;
  for (std::size_t i = 0; i < digits.size(); i += 4) text += (i ? ":" : "") + digits.substr(i, 4);
  auto parsed = Address::parse(text);
  if (!parsed) return std::nullopt;
  return *parsed;
}

bool is_link_local(const Address& address) {
  static const Prefix link("fe80::/10");
  return link.contains(address);
}

void find_uplink4(Surroundings& around) {
  std::ifstream routes("/proc/thread-self/net/route");
  std::string line;
  std::getline(routes, line);
  while (std::getline(routes, line)) {
    std::istringstream words(line);
    std::string link;
    std::uint32_t to = 0, via = 0;
    words >> link >> std::hex >> to >> via;
    if (!words || to != 0) continue;
    if (via != 0) around.upstream = Address::from_v4(ntohl(via));
    around.uplink = source_towards(around.upstream.value_or(around.foreign));
    return;
  }
}

void find_uplink6(Surroundings& around) {
  std::ifstream routes("/proc/thread-self/net/ipv6_route");
  static const std::string nowhere(32, '0');
  std::string to, length, from, from_length, via, metric, references, uses, flags, link;
  while (routes >> to >> length >> from >> from_length >> via >> metric >> references >> uses >> flags >> link) {
    if (to != nowhere || length != "00" || link == "lo") continue;
    auto router = via != nowhere ? address6(via) : std::nullopt;
    if (router && !is_link_local(*router)) around.upstream6 = router;
    around.uplink6 = source_towards(around.foreign6);
    return;
  }
}

void find_link_local(Surroundings& around) {
  std::ifstream addresses("/proc/thread-self/net/if_inet6");
  std::string digits, index, length, scope, flags, link;
  while (addresses >> digits >> index >> length >> scope >> flags >> link) {
    auto address = address6(digits);
    if (link == around.interface && address && is_link_local(*address)) around.link_local6 = address;
  }
}

/// "Another device is on your own link": Linux says so before it asks the forward hook, which then drops the packet.
bool is_redirect(const Seen& packet) {
  return (packet.protocol == IPPROTO_ICMP && packet.type == ICMP_REDIRECT) ||
         (packet.protocol == IPPROTO_ICMPV6 && packet.type == ND_REDIRECT);
}

}  // namespace

void find_uplink(Surroundings& around) {
  find_uplink4(around);
  find_uplink6(around);
  find_link_local(around);
}

Result<Prober> Prober::open(Tunnel& tunnel, Surroundings& around) {
  int lane = static_cast<int>(::if_nametoindex(around.interface.c_str()));
  if (lane == 0)
    return Error(errc::interface_missing, around.interface +
                                              " is not in this network namespace: run the verification "
                                              "where tornadod runs");
  TRY_PLAIN(auto outside, Capture::outside(lane));
  TRY_PLAIN(auto canary, Canary::open());
  around.canary_tcp = canary.tcp_port();
  around.canary_udp = canary.udp_port();
  return Prober(tunnel, around, std::move(outside), std::move(canary), lane);
}

Prober::Prober(Tunnel& tunnel, const Surroundings& around, Capture outside, Canary canary, int lane)
    : tunnel_(tunnel),
      around_(around),
      outside_(std::move(outside)),
      canary_(std::move(canary)),
      lane_(lane),
      marker_(Marker::random()),
      probes_(probes(around)),
      evidence_(probes_.size()) {}

Result<std::vector<Finding>> Prober::run() {
  TRY_VOID_PLAIN(await_handshake());
  for (int attempt = 0; attempt < attempts && !all_arrived(); ++attempt) {
    if (attempt > 0) watch(between_attempts_ms);
    TRY_VOID_PLAIN(send_missing());
    // The tunnel keeps the order: what was sent before has arrived when the gateway has answered this.
    (void)echo(1000);
  }
  watch(late_answers_ms);
  std::uint64_t lost = outside_.lost();
  std::vector<Finding> out;
  for (std::size_t i = 0; i < probes_.size(); ++i) out.push_back(judge(probes_[i], evidence_[i], lost));
  if (unmarked_.empty()) return out;
  Finding& other = out.emplace_back();
  other.probe = "lane_address";
  other.what = "any packet with the address of the lane";
  other.verdict = Verdict::leaked;
  other.observed = unmarked_.front();
  return out;
}

Result<void> Prober::await_handshake() {
  for (auto until = Clock::now() + handshake_patience; Clock::now() < until;)
    if (echo(echo_every_ms)) return {};
  return Error(errc::deadline_exceeded, around_.gateway.str() + " does not answer through the tunnel: is " +
                                            around_.interface + " up, and does another firewall hold its UDP port?");
}

Result<void> Prober::send_missing() {
  for (std::size_t i = 0; i < probes_.size(); ++i) {
    if (evidence_[i].arrived) continue;
    for (const auto& packet : encode(probes_[i], i, marker_)) TRY_VOID_PLAIN(tunnel_.packets().send(packet));
    read_once(0);
  }
  return {};
}

bool Prober::echo(int patience_ms) {
  ++echo_sent_;
  if (!tunnel_.packets().send(encode_echo(around_.address, around_.gateway, echo_sent_))) return false;
  auto until = Clock::now() + std::chrono::milliseconds(patience_ms);
  while (echo_seen_ != echo_sent_ && Clock::now() < until) read_once(10);
  return echo_seen_ == echo_sent_;
}

bool Prober::all_arrived() const {
  for (std::size_t i = 0; i < probes_.size(); ++i)
    if (!evidence_[i].arrived) return false;
  return true;
}

void Prober::watch(int ms) {
  for (auto until = Clock::now() + std::chrono::milliseconds(ms); Clock::now() < until;) read_once(20);
  // What came while this process stood still.
  read_once(0);
}

void Prober::read_once(int ms) {
  pollfd entries[] = {{tunnel_.packets().fd(), POLLIN, 0},
                      {outside_.fd(), POLLIN, 0},
                      {canary_.udp_fd(), POLLIN, 0},
                      {canary_.tcp_fd(), POLLIN, 0}};
  if (::poll(entries, std::size(entries), ms) <= 0) return;
  for (const auto& packet : outside_.drain()) saw_outside(packet);
  for (const auto& packet : tunnel_.packets().drain())
    if (!packet.outgoing) saw_answer(packet);
  for (const auto& text : canary_.datagrams())
    if (auto number = marker_.find(text); number && *number < evidence_.size()) evidence_[*number].delivered = true;
  for (const auto& peer : canary_.connections())
    for (std::size_t i = 0; i < probes_.size(); ++i)
      if (peer == Endpoint(probes_[i].from, source_port(i))) evidence_[i].delivered = true;
}

void Prober::saw_outside(const Packet& packet) {
  auto seen = decode(packet.bytes);
  if (!seen) return;
  std::size_t number = marker_.find(packet.bytes).value_or(evidence_.size());
  bool marked = number < evidence_.size();
  bool on_lane = packet.interface == lane_;
  if (on_lane && !packet.outgoing) {
    if (marked) evidence_[number].arrived = true;
    return;
  }
  bool to_us = seen->to == around_.address || (around_.address6 && seen->to == *around_.address6);
  // On the lane itself answers to us are no leak, they are judged where they arrive; a probe that goes to another
  // device is.
  if (on_lane && (to_us || !marked || seen->to != probes_[number].to)) return;
  if (!marked) return unmarked(packet, *seen);
  evidence_[number].outside.push_back("left by " + name_of(packet.interface) + ": " + seen->str());
}

/// No marker, but the address we were given: nobody else has it.
void Prober::unmarked(const Packet& packet, const Seen& seen) {
  bool ours = seen.from == around_.address || (around_.address6 && seen.from == *around_.address6);
  if (ours) unmarked_.push_back("left by " + name_of(packet.interface) + ": " + seen.str());
}

void Prober::saw_answer(const Packet& packet) {
  auto seen = decode(packet.bytes);
  if (!seen) return;
  bool echo_reply = seen->protocol == (around_.gateway.is_v4() ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}) &&
                    seen->type == (around_.gateway.is_v4() ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY);
  if (echo_reply && seen->from == around_.gateway && !marker_.find(packet.bytes)) {
    echo_seen_ = seen->echo_sequence;
    return;
  }
  if (is_redirect(*seen)) return;
  bool by_port = seen->protocol == IPPROTO_TCP || seen->protocol == IPPROTO_UDP;
  if (auto number = marker_.find(packet.bytes); number && *number < probes_.size()) return answered(*number, *seen);
  for (std::size_t i = 0; by_port && i < probes_.size(); ++i)
    if (seen->port == source_port(i) && seen->protocol == probes_[i].protocol) return answered(i, *seen);
}

void Prober::answered(std::size_t number, const Seen& packet) {
  const Probe& probe = probes_[number];
  Answer kind = kind_of(packet);
  bool own = packet.protocol == probe.protocol;
  if (!own) kind = Answer::none;
  // The end of a connection that stood.
  auto& answers = evidence_[number].answers;
  if (kind == Answer::reset && std::find(answers.begin(), answers.end(), Answer::connection) != answers.end()) return;
  if (own && packet.protocol == IPPROTO_TCP && kind == Answer::none) return;
  answers.push_back(kind);
  if (kind == Answer::none) evidence_[number].strange = "answered by " + packet.str();
  if (kind != Answer::connection) return;
  // Only a finished handshake shows whether it was a port of the gateway itself that answered.
  for (std::uint8_t flags : {tcp_ack, static_cast<std::uint8_t>(tcp_rst | tcp_ack)})
    (void)tunnel_.packets().send(tcp_segment(probe, number, packet.acknowledged, packet.sequence + 1, flags));
}

}  // namespace tornado::inline v1::verify
