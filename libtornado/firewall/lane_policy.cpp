#include <algorithm>

#include "firewall/ruleset.hpp"
#include "tornado/firewall.hpp"
#include "tornado/host.hpp"

namespace tornado::inline v1 {
namespace {

using namespace rule;

// Hook priorities, see nft(8). `early` is before connection tracking (-200), `nat` before the destination NAT of
// others (I-24), `refuse` before it: there an established flow still shows the destination its device chose (D-098),
// and behind the blackhole routes a forward hook is not reached (I-20). `forward` and `input` are before the filters of
// others; an accept of ours ends our chain only.
constexpr int early_priority = -310;
constexpr int mark_priority = -150;
constexpr int refuse_priority = -120;
constexpr int nat_priority = -110;
constexpr int filter_priority = -10;
constexpr int masquerade_priority = 100;
constexpr std::uint16_t dns_port = 53, http_port = 80;
// Sources that are counted; further ones are not limited. The kernel makes its table of this size at once.
constexpr std::uint32_t most_sources = 1U << 18;

const Prefix& loopback4() {
  static const Prefix prefix("127.0.0.0/8");
  return prefix;
}
const Prefix& loopback6() {
  static const Prefix prefix("::1/128");
  return prefix;
}

Prefix single(const Address& address) {
  return Prefix(address, address.is_v4() ? 32 : 128);
}
Network from(const Prefix& prefix) {
  return Network{Side::source, prefix};
}
Network to(const Prefix& prefix) {
  return Network{Side::destination, prefix};
}
Network to(const Address& address) {
  return to(single(address));
}
MarkSource mark_of(const Lane& lane, const Prefix& pool) {
  MarkSource out;
  out.v6 = !pool.base().is_v4();
  if (out.v6) out.lane = lane_mark(lane);
  return out;
}
Interface incoming(const std::string& name) {
  return Interface{Path::in, name, false};
}
InterfaceSet leaving_to_lane() {
  return InterfaceSet{Path::out, std::string(lanes_set), false};
}
Verdict accept() {
  return Verdict{VerdictKind::accept, {}};
}
Verdict drop() {
  return Verdict{VerdictKind::drop, {}};
}
Verdict go(std::string chain) {
  return Verdict{VerdictKind::go, std::move(chain)};
}
Rule counted_drop() {
  return Rule{Counter{}, drop()};
}

/// A name of a chain or set that nft(8) can read, for any lane name: letters and digits stay, others become their hex
/// code.
std::string object_name(const Lane& lane, std::string_view kind) {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "lane_";
  for (char c : lane.str()) {
    auto byte = static_cast<unsigned char>(c);
    bool plain = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    if (plain) {
      out += c;
    } else {
      out += '_';
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out + "_" + std::string(kind);
}

/// The blocks of a lane: its pools, and a gateway address that lies outside of them.
std::vector<Prefix> blocks_of(const LanePolicy& lane) {
  std::vector<Prefix> out{lane.pool};
  if (lane.pool6) out.push_back(*lane.pool6);
  if (!lane.pool.contains(lane.gateway)) out.push_back(single(lane.gateway));
  if (lane.gateway6 && !(lane.pool6 && lane.pool6->contains(*lane.gateway6))) out.push_back(single(*lane.gateway6));
  return out;
}

std::vector<Prefix> pools_of(const LanePolicy& lane) {
  std::vector<Prefix> out{lane.pool};
  if (lane.pool6) out.push_back(*lane.pool6);
  return out;
}

bool redirects(const LanePolicy& lane) {
  return lane.mode == LaneMode::tor || lane.mode == LaneMode::maintenance;
}

std::vector<Address> gateways_of(const LanePolicy& lane) {
  std::vector<Address> out{lane.gateway};
  if (lane.gateway6) out.push_back(*lane.gateway6);
  return out;
}

Chain base(std::string name, ChainType type, Hook hook, int priority) {
  Chain out;
  out.name = std::move(name);
  out.hook = ChainHook{type, hook, priority};
  return out;
}

Chain lane_chain(const LanePolicy& lane, std::string_view kind) {
  Chain out;
  out.name = object_name(lane.lane, kind);
  out.lane = lane.lane;
  return out;
}

class Compiler {
 public:
  explicit Compiler(const GatewayPolicy& policy) : policy_(policy) {}

  Ruleset run() {
    sets();
    for (const LanePolicy& lane : policy_.lanes) {
      lane_early(lane);
      lane_refuse(lane);
      lane_nat(lane);
      lane_forward(lane);
      lane_toward(lane);
      lane_redirected(lane);
      lane_input(lane);
    }
    early();
    mark();
    refuse();
    nat();
    mss();
    forward();
    input();
    output();
    postrouting();
    access();
    return std::move(out_);
  }

 private:
  void access() {
    for (ElementSet& set : access_sets(policy_.access.get())) out_.sets.push_back(std::move(set));
    for (Chain& chain : access_chains(policy_)) out_.chains.push_back(std::move(chain));
  }

  void sets() {
    ElementSet lanes{std::string(lanes_set), SetType::interface, {}, {}, 0};
    for (const LanePolicy& lane : policy_.lanes) lanes.interfaces.push_back(lane.interface);
    std::sort(lanes.interfaces.begin(), lanes.interfaces.end());
    lanes.interfaces.erase(std::unique(lanes.interfaces.begin(), lanes.interfaces.end()), lanes.interfaces.end());
    out_.sets.push_back(std::move(lanes));
    for (ElementSet& set : api_sets(policy_.api)) out_.sets.push_back(std::move(set));
    if (policy_.connections_per_device != 0)
      for (const LanePolicy& lane : policy_.lanes) source_sets(lane);
  }

  /// A device has an address of each pool at most, and there are no more devices than IPv4 addresses.
  void source_sets(const LanePolicy& lane) {
    int free_bits = 32 - lane.pool.length();
    std::uint32_t capacity = free_bits < 18 ? 1U << free_bits : most_sources;
    for (std::string_view kind : {through, to_us})
      for (const Prefix& pool : pools_of(lane)) {
        bool v6 = !pool.base().is_v4();
        out_.sets.push_back({source_set(lane, kind, v6), v6 ? SetType::source6 : SetType::source4, {}, {}, capacity});
      }
  }

  static std::string source_set(const LanePolicy& lane, std::string_view kind, bool v6) {
    return object_name(lane.lane, kind) + (v6 ? "6" : "4");
  }

  /// What would be one connection too many is dropped; those that stand go on (I-25).
  void limit_connections(const LanePolicy& lane, std::string_view kind, Chain& chain) {
    if (policy_.connections_per_device == 0) return;
    for (const Prefix& pool : pools_of(lane)) {
      bool v6 = !pool.base().is_v4();
      ConnectionsOver over{v6, source_set(lane, kind, v6), policy_.connections_per_device};
      chain.rules.push_back({incoming(lane.interface), from(pool), Opening{}, over, Counter{}, drop()});
    }
  }

  /// A device speaks with its own address and never to loopback (D-076). Without an IPv6 pool no IPv6 at all.
  void lane_early(const LanePolicy& lane) {
    Chain chain = lane_chain(lane, "early");
    chain.rules.push_back({to(loopback4()), Counter{}, drop()});
    chain.rules.push_back({to(loopback6()), Counter{}, drop()});
    chain.rules.push_back({from(single(lane.gateway)), Counter{}, drop()});
    if (lane.gateway6) chain.rules.push_back({from(single(*lane.gateway6)), Counter{}, drop()});
    for (const Prefix& pool : pools_of(lane)) chain.rules.push_back({from(pool), accept()});
    chain.rules.push_back(counted_drop());
    out_.chains.push_back(std::move(chain));
  }

  /// TCP that is refused at once: the device's programs learn of it instead of waiting (D-101). Never the API.
  void lane_refuse(const LanePolicy& lane) {
    Chain chain = lane_chain(lane, "refuse");
    if (redirects(lane)) {
      chain.rules.push_back({Destination{false, std::string(api4_set)}, accept()});
      chain.rules.push_back({Destination{true, std::string(api6_set)}, accept()});
      own_api(lane, chain);
    }
    if (lane.mode == LaneMode::tor) chain.rules.push_back({Port{Protocol::tcp, dns_port}, Counter{}, Reset{}});
    if (lane.mode == LaneMode::maintenance) {
      chain.rules.push_back({Port{Protocol::tcp, http_port}, accept()});
      chain.rules.push_back({Transport{Protocol::tcp}, Counter{}, Reset{}});
    }
    out_.chains.push_back(std::move(chain));
  }

  void own_api(const LanePolicy& lane, Chain& chain) {
    for (const Address& gateway : gateways_of(lane))
      chain.rules.push_back({to(gateway), Port{Protocol::tcp, policy_.api_port}, accept()});
  }

  /// The API first, in every mode (I-22); then DNS to any address (K-05), in the families that have a resolver.
  void lane_nat(const LanePolicy& lane) {
    Chain chain = lane_chain(lane, "nat");
    chain.rules.push_back(
        {Destination{false, std::string(api4_set)}, Translate{Endpoint(lane.gateway, policy_.api_port)}});
    if (lane.gateway6)
      chain.rules.push_back(
          {Destination{true, std::string(api6_set)}, Translate{Endpoint(*lane.gateway6, policy_.api_port)}});
    if (lane.mode == LaneMode::open)
      for (const auto& dns : {policy_.dns, policy_.dns6}) {
        if (!dns) continue;
        for (Protocol protocol : {Protocol::udp, Protocol::tcp})
          chain.rules.push_back({Family{!dns->address.is_v4()}, Port{protocol, dns_port}, Translate{*dns}});
      }
    if (redirects(lane)) {
      own_api(lane, chain);
      redirections(lane, chain);
    }
    out_.chains.push_back(std::move(chain));
  }

  void redirections(const LanePolicy& lane, Chain& chain) {
    bool up = lane.mode == LaneMode::tor;
    for (const Address& gateway : gateways_of(lane)) {
      Family family{!gateway.is_v4()};
      Endpoint dns(gateway, up ? lane.dns_port : lane.responder_port);
      chain.rules.push_back({family, Port{Protocol::udp, dns_port}, Translate{dns}});
      Endpoint tcp(gateway, up ? lane.trans_port : lane.page_port);
      if (up)
        chain.rules.push_back({family, Transport{Protocol::tcp}, Translate{tcp}});
      else
        chain.rules.push_back({family, Port{Protocol::tcp, http_port}, Translate{tcp}});
    }
  }

  /// What comes from a lane, or from an address of its pool, and goes through us.
  void lane_forward(const LanePolicy& lane) {
    Chain chain = lane_chain(lane, "forward");
    if (lane.mode == LaneMode::open) {
      chain.rules.push_back({leaving_to_lane(), Counter{}, drop()});
      for (const LanePolicy& other : policy_.lanes)
        for (const Prefix& block : blocks_of(other)) chain.rules.push_back({to(block), Counter{}, drop()});
      for (bool v6 : {false, true}) {
        if (v6 ? policy_.dns6.has_value() : policy_.dns.has_value()) continue;
        for (Protocol protocol : {Protocol::udp, Protocol::tcp})
          chain.rules.push_back({Family{v6}, Port{protocol, dns_port}, Counter{}, drop()});
      }
      limit_connections(lane, through, chain);
      // What connection tracking does not know is not masqueraded: it would show the lane address outside.
      for (const Prefix& pool : pools_of(lane))
        chain.rules.push_back({incoming(lane.interface), from(pool), Tracked{true, true, true}, accept()});
    }
    chain.rules.push_back(counted_drop());
    out_.chains.push_back(std::move(chain));
  }

  /// What goes through us to a lane: answers only.
  void lane_toward(const LanePolicy& lane) {
    Chain chain = lane_chain(lane, "toward");
    if (lane.mode == LaneMode::open) chain.rules.push_back({Tracked{false, true, true}, Reply{}, accept()});
    chain.rules.push_back(counted_drop());
    out_.chains.push_back(std::move(chain));
  }

  /// What `redirections` sent to us. It counts as going through, or it would use up what is left for the API (I-25).
  void lane_redirected(const LanePolicy& lane) {
    Chain chain = lane_chain(lane, "redirected");
    if (redirects(lane)) {
      limit_connections(lane, through, chain);
      chain.rules.push_back({incoming(lane.interface), accept()});
    }
    chain.rules.push_back(counted_drop());
    out_.chains.push_back(std::move(chain));
  }

  /// The redirected go to a chain of their own. What a device addressed to these ports itself was not translated, and
  /// is left to the drop at the end: with the nat chains gone nothing but the API is in reach (D-099).
  void send_redirected(const LanePolicy& lane, Chain& chain) {
    bool up = lane.mode == LaneMode::tor;
    Verdict redirected = go(object_name(lane.lane, "redirected"));
    for (const Address& gateway : gateways_of(lane)) {
      Port tcp{Protocol::tcp, up ? lane.trans_port : lane.page_port};
      Port udp{Protocol::udp, up ? lane.dns_port : lane.responder_port};
      for (const Port& port : {tcp, udp})
        chain.rules.push_back({incoming(lane.interface), to(gateway), port, Translated{}, redirected});
    }
  }

  /// What comes from a lane and is for us.
  void lane_input(const LanePolicy& lane) {
    Chain chain = lane_chain(lane, "input");
    Interface in = incoming(lane.interface);
    if (redirects(lane)) send_redirected(lane, chain);
    limit_connections(lane, to_us, chain);
    chain.rules.push_back({in, to(lane.gateway), Port{Protocol::tcp, policy_.api_port}, accept()});
    chain.rules.push_back({in, to(lane.gateway), Echo{false}, accept()});
    if (lane.gateway6) {
      chain.rules.push_back({in, to(*lane.gateway6), Port{Protocol::tcp, policy_.api_port}, accept()});
      chain.rules.push_back({in, to(*lane.gateway6), Echo{true}, accept()});
    }
    if (lane.mode == LaneMode::open) local_resolver(lane, chain);
    // Answers to what we started, and errors about what we answered: path MTU discovery needs them.
    chain.rules.push_back({in, Tracked{false, true, true}, Reply{}, accept()});
    for (Protocol protocol : {Protocol::icmp, Protocol::icmpv6})
      chain.rules.push_back({in, Tracked{false, false, true}, Transport{protocol}, accept()});
    chain.rules.push_back(counted_drop());
    out_.chains.push_back(std::move(chain));
  }

  /// The resolver may be an address of this host; translated queries then arrive here.
  void local_resolver(const LanePolicy& lane, Chain& chain) {
    for (const auto& dns : {policy_.dns, policy_.dns6}) {
      if (!dns) continue;
      for (Protocol protocol : {Protocol::udp, Protocol::tcp})
        chain.rules.push_back({incoming(lane.interface), to(dns->address), Port{protocol, dns->port}, accept()});
    }
  }

  /// Neighbours: on other interfaces lane addresses neither send nor receive (I-24). Answers to masqueraded traffic
  /// carry the gateway's own address here; they get the lane's back only in destination NAT.
  void early() {
    Chain chain = base("early", ChainType::filter, Hook::prerouting, early_priority);
    chain.rules.push_back({incoming("lo"), accept()});
    for (const LanePolicy& lane : policy_.lanes)
      chain.rules.push_back({incoming(lane.interface), go(object_name(lane.lane, "early"))});
    for (const LanePolicy& lane : policy_.lanes)
      for (const Prefix& block : blocks_of(lane)) {
        chain.rules.push_back({from(block), Counter{}, drop()});
        chain.rules.push_back({to(block), Counter{}, drop()});
      }
    out_.chains.push_back(std::move(chain));
  }

  void mark() {
    Chain chain = base("marking", ChainType::filter, Hook::prerouting, mark_priority);
    for (const LanePolicy& lane : policy_.lanes)
      for (const Prefix& pool : pools_of(lane))
        chain.rules.push_back({incoming(lane.interface), from(pool), mark_of(lane.lane, pool)});
    out_.chains.push_back(std::move(chain));
  }

  void refuse() {
    Chain chain = base("refuse", ChainType::filter, Hook::prerouting, refuse_priority);
    for (const LanePolicy& lane : policy_.lanes)
      chain.rules.push_back({incoming(lane.interface), go(object_name(lane.lane, "refuse"))});
    out_.chains.push_back(std::move(chain));
  }

  void nat() {
    Chain chain = base("nat", ChainType::nat, Hook::prerouting, nat_priority);
    for (const LanePolicy& lane : policy_.lanes)
      chain.rules.push_back({incoming(lane.interface), go(object_name(lane.lane, "nat"))});
    out_.chains.push_back(std::move(chain));
  }

  void mss() {
    Chain chain = base("mss", ChainType::filter, Hook::forward, mark_priority);
    for (Path path : {Path::in, Path::out})
      chain.rules.push_back({InterfaceSet{path, std::string(lanes_set), false}, Syn{}, ClampMss{}});
    out_.chains.push_back(std::move(chain));
  }

  void forward() {
    Chain chain = base("forward", ChainType::filter, Hook::forward, filter_priority);
    for (const LanePolicy& lane : policy_.lanes)
      chain.rules.push_back({incoming(lane.interface), go(object_name(lane.lane, "forward"))});
    for (const LanePolicy& lane : policy_.lanes)
      for (const Prefix& block : blocks_of(lane))
        chain.rules.push_back({from(block), go(object_name(lane.lane, "forward"))});
    for (const LanePolicy& lane : policy_.lanes)
      chain.rules.push_back({Interface{Path::out, lane.interface, false}, go(object_name(lane.lane, "toward"))});
    for (const LanePolicy& lane : policy_.lanes)
      for (const Prefix& block : blocks_of(lane)) chain.rules.push_back({to(block), Counter{}, drop()});
    out_.chains.push_back(std::move(chain));
  }

  void input() {
    Chain chain = base("input", ChainType::filter, Hook::input, filter_priority);
    chain.rules.push_back({incoming("lo"), accept()});
    for (const LanePolicy& lane : policy_.lanes)
      chain.rules.push_back({incoming(lane.interface), go(object_name(lane.lane, "input"))});
    for (const LanePolicy& lane : policy_.lanes)
      for (const Prefix& block : blocks_of(lane))
        chain.rules.push_back({from(block), go(object_name(lane.lane, "input"))});
    out_.chains.push_back(std::move(chain));
  }

  /// What we say to a device goes by its lane or not at all: a link that is down has no route, and the default route
  /// would take it, in clear.
  void output() {
    Chain chain = base("output", ChainType::filter, Hook::output, filter_priority);
    for (const LanePolicy& lane : policy_.lanes)
      for (const Prefix& block : blocks_of(lane))
        chain.rules.push_back({Interface{Path::out, lane.interface, true}, Interface{Path::out, "lo", true}, to(block),
                               Counter{}, drop()});
    out_.chains.push_back(std::move(chain));
  }

  /// Own addresses only, and not between lanes or to ourselves (D-075).
  void postrouting() {
    Chain chain = base("postrouting", ChainType::nat, Hook::postrouting, masquerade_priority);
    chain.rules.push_back({Interface{Path::out, "lo", false}, accept()});
    chain.rules.push_back({leaving_to_lane(), accept()});
    for (const LanePolicy& lane : policy_.lanes)
      for (const Prefix& pool : pools_of(lane)) chain.rules.push_back({from(pool), Masquerade{}});
    out_.chains.push_back(std::move(chain));
  }

  static constexpr std::string_view through = "through", to_us = "local";
  const GatewayPolicy& policy_;
  Ruleset out_;
};

}  // namespace

std::string_view name(LaneMode mode) noexcept {
  static constexpr std::string_view names[] = {"open", "closed", "tor", "maintenance"};
  return names[static_cast<std::size_t>(mode)];
}

std::optional<LaneMode> lane_mode_from_name(std::string_view text) noexcept {
  for (LaneMode mode : {LaneMode::open, LaneMode::closed, LaneMode::tor, LaneMode::maintenance})
    if (name(mode) == text) return mode;
  return std::nullopt;
}

std::shared_ptr<const Ruleset> compile(const GatewayPolicy& policy) {
  return std::make_shared<const Ruleset>(Compiler(policy).run());
}

}  // namespace tornado::inline v1
