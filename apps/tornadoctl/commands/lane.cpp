#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <iostream>

#include "base/json.hpp"
#include "base/try.hpp"
#include "commands/command.hpp"
#include "crypto/seal.hpp"
#include "output/table.hpp"
#include "verify/prober.hpp"

using namespace tornado;
namespace json = boost::json;

namespace tornadoctl {
namespace {

constexpr int lane_leaks = 1;
// Public resolvers: they exist, they answer everything we try, and they are not the gateway's business.
constexpr const char* foreign = "9.9.9.9";
constexpr const char* foreign6 = "2620:fe::9";

struct Wanted {
  std::string lane = "tor", program = "wireguard-go", socket_dir = "/var/run/wireguard";
  std::string foreign = tornadoctl::foreign, foreign6 = tornadoctl::foreign6;
};

constexpr const char* synopsis = "lane verify [tor|vpn] [--foreign ADDRESS] [--foreign6 ADDRESS] [--wireguard-go PATH]";

Result<Wanted> parse(const std::vector<std::string>& words) {
  Wanted out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string* value = words[i] == "--foreign"        ? &out.foreign
                         : words[i] == "--foreign6"     ? &out.foreign6
                         : words[i] == "--wireguard-go" ? &out.program
                                                        : nullptr;
    if (value != nullptr && i + 1 < words.size())
      *value = words[++i];
    else if (words[i] == "tor" || words[i] == "vpn")
      out.lane = words[i];
    else
      return Error(errc::invalid_argument, synopsis);
  }
  auto far = Address::parse(out.foreign), far6 = Address::parse(out.foreign6);
  if (!far || !far->is_v4()) return Error(errc::invalid_argument, "--foreign: an IPv4 address is expected");
  if (!far6 || far6->is_v4()) return Error(errc::invalid_argument, "--foreign6: an IPv6 address is expected");
  return out;
}

/// Members of the ticket; the first that is missing or malformed is remembered.
class Ticket {
 public:
  explicit Ticket(const json::object& object) : object_(object) {}
  std::string text(std::string_view key) {
    auto found = text_at(object_, key);
    if (!found) wrong(key);
    return found.value_or("");
  }
  std::uint16_t port(std::string_view key) {
    auto found = integer_at(object_, key);
    if (!found) wrong(key);
    return static_cast<std::uint16_t>(found.value_or(0));
  }
  Address address(std::string_view key) {
    auto found = Address::parse(text(key));
    if (!found) wrong(key);
    return found ? *found : Address();
  }
  std::optional<Address> maybe(std::string_view key) {
    auto found = text_at(object_, key);
    return found ? std::optional(address(key)) : std::nullopt;
  }
  void wrong(std::string_view key) {
    if (wrong_.empty()) wrong_ = key;
  }
  const json::object& object() const { return object_; }
  Result<void> good() const {
    if (wrong_.empty()) return {};
    return Error(errc::protocol_error,
                 "an answer of an unknown form (" + wrong_ + "): are tornadod and tornadoctl of the same version?");
  }

 private:
  const json::object& object_;
  std::string wrong_;
};

Result<verify::Surroundings> surroundings(const json::object& object, const Wanted& wanted) {
  Ticket ticket(object);
  verify::Surroundings out;
  out.lane = Lane(ticket.text("lane"));
  out.interface = ticket.text("interface");
  if (auto mode = lane_mode_from_name(ticket.text("mode")))
    out.mode = *mode;
  else
    ticket.wrong("mode");
  out.address = ticket.address("address");
  out.gateway = ticket.address("gateway");
  out.neighbour = ticket.address("neighbour");
  out.address6 = ticket.maybe("address6");
  out.gateway6 = ticket.maybe("gateway6");
  out.neighbour6 = ticket.maybe("neighbour6");
  out.trans_port = ticket.port("trans_port");
  out.dns_port = ticket.port("dns_port");
  out.page_port = ticket.port("page_port");
  out.responder_port = ticket.port("responder_port");
  const auto* others = object.if_contains("others");
  for (const auto& entry : others != nullptr && others->is_array() ? others->get_array() : json::array()) {
    if (!entry.is_object()) continue;
    Ticket other(entry.get_object());
    auto& lane = out.others.emplace_back();
    lane.name = other.text("lane");
    lane.gateway = other.address("gateway");
    lane.device = other.address("device");
    lane.gateway6 = other.maybe("gateway6");
    lane.device6 = other.maybe("device6");
    TRY_VOID_PLAIN(other.good());
  }
  TRY_VOID_PLAIN(ticket.good());
  TRY_PLAIN(out.foreign, Address::parse(wanted.foreign));
  TRY_PLAIN(out.foreign6, Address::parse(wanted.foreign6));
  verify::find_uplink(out);
  return out;
}

Result<std::vector<verify::Finding>> probe(const json::object& ticket, const Wanted& wanted, const X25519Key& key) {
  TRY_PLAIN(auto around, surroundings(ticket, wanted));
  Ticket words(ticket);
  verify::TunnelOptions options;
  options.program = wanted.program;
  options.socket_dir = wanted.socket_dir;
  options.port = words.port("port");
  TRY_PLAIN(options.server, PublicKey::parse(words.text("server_key")));
  TRY_PLAIN(auto tunnel, verify::Tunnel::open(options, key));
  TRY_PLAIN(auto prober, verify::Prober::open(tunnel, around));
  return prober.run();
}

json::value shown(const std::vector<verify::Finding>& findings) {
  json::array out;
  for (const auto& finding : findings) {
    json::object row;
    row["probe"] = finding.probe;
    row["family"] = finding.family;
    row["verdict"] = std::string(name(finding.verdict));
    row["observed"] = finding.observed;
    row["what"] = finding.what;
    out.push_back(std::move(row));
  }
  return out;
}

/// Tells the daemon what was found, which takes the device away. Empty findings: nothing was.
Result<json::object> report(ControlClient& client, const std::string& token,
                            const std::vector<verify::Finding>& findings) {
  json::object params;
  std::string failed;
  std::int64_t held = 0;
  for (const auto& finding : findings) {
    if (finding.verdict == verify::Verdict::held)
      ++held;
    else
      failed += (failed.empty() ? "" : ",") + finding.probe + " " + std::string(name(finding.verdict));
  }
  if (findings.empty()) failed = "verification failed";
  params["token"] = token;
  params["held"] = held;
  params["failed"] = failed;
  TRY_PLAIN(auto answer, client.call("lane.verify_end", json::serialize(params)));
  TRY_PLAIN(auto value, parse_json(answer));
  return value.is_object() ? value.get_object() : json::object();
}

int conclude(const Globals& globals, const Wanted& wanted, const std::string& mode,
             const std::vector<verify::Finding>& findings) {
  verify::Verdict verdict = verify::worst(findings);
  json::value rows = shown(findings);
  if (globals.json) {
    json::object out;
    out["lane"] = wanted.lane;
    out["mode"] = mode;
    out["verdict"] = std::string(name(verdict));
    out["probes"] = std::move(rows);
    std::cout << json::serialize(out) << "\n";
  } else {
    print_for_people(std::cout, rows, {"probe", "family", "verdict", "observed", "what"});
    auto held = std::count_if(findings.begin(), findings.end(),
                              [](const verify::Finding& finding) { return finding.verdict == verify::Verdict::held; });
    std::cout << "lane " << wanted.lane << " (" << mode << "): " << held << " of " << findings.size()
              << " probes held\n";
  }
  return verdict == verify::Verdict::held ? 0 : lane_leaks;
}

}  // namespace

int verify_lane(const Globals& globals, const std::vector<std::string>& words) {
  auto wanted = parse(words);
  if (!wanted) return usage(wanted.error().detail());
  if (::geteuid() != 0)
    return fail(Error(errc::permission_denied,
                      "a verification makes a network namespace: run it as root (sudo tornadoctl lane verify)"));
  X25519Key key = X25519Key::generate();
  ControlClient client(globals.socket);
  json::object params;
  params["lane"] = wanted->lane;
  params["public-key"] = key.public_key().str();
  auto begun = client.call("lane.verify_begin", json::serialize(params));
  if (!begun) return fail(begun.error());
  auto ticket = parse_json(*begun);
  if (!ticket || !ticket->is_object()) return fail(Error(errc::protocol_error, "an answer of an unknown form"));
  const auto& object = ticket->get_object();
  auto findings = probe(object, *wanted, key);
  // Over a new connection: the daemon may have been restarted meanwhile.
  ControlClient second(globals.socket);
  auto outcome =
      report(second, text_at(object, "token").value_or(""), findings ? *findings : std::vector<verify::Finding>());
  if (!findings) return fail(findings.error());
  if (!outcome) std::cerr << "tornadoctl: the daemon could not be told: " << outcome.error().detail() << "\n";
  if (outcome && bool_at(*outcome, "mode_changed").value_or(false))
    return fail(Error(errc::failed_precondition,
                      "the lane changed its mode meanwhile, so the outcome means nothing: run it again"));
  return conclude(globals, *wanted, text_at(object, "mode").value_or(""), *findings);
}

}  // namespace tornadoctl
