#include <algorithm>

#include "explain/why_facts.hpp"
#include "limits/quantity.hpp"
#include "peer/lane_interface.hpp"
#include "peer/peer_book.hpp"

namespace tornado::inline v1 {

std::string_view name(Found found) noexcept {
  constexpr std::string_view names[] = {"good", "wrong", "note", "unknown"};
  return names[static_cast<std::size_t>(found)];
}

namespace {

std::string ago(Instant then, Instant now) {
  auto seconds = std::chrono::duration_cast<Seconds>(now - then).count();
  if (seconds < 0) return "in the future";
  if (seconds < 120) return std::to_string(seconds) + " s ago";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min ago";
  return std::to_string(seconds / 3600) + " h ago";
}

class Judge {
 public:
  explicit Judge(const WhyFacts& facts) : f_(facts) {}

  Why take() {
    out_.subject = f_.user.username + (f_.device ? ", device " + f_.device->id.str() : "");
    gateway();
    account();
    sign_in();
    session();
    lease();
    for (const auto& lane : f_.lanes) peer(lane);
    handshake();
    policy();
    rights();
    firewall();
    return std::move(out_);
  }

 private:
  void say(std::string check, Found found, std::string detail, std::string remedy = std::string()) {
    out_.steps.emplace_back(std::move(check), found, std::move(detail), std::move(remedy));
  }

  void gateway() {
    if (!f_.ready) say("gateway", Found::wrong, "it is still starting", "tornadoctl gateway status names the step");
    // Tor, other firewalls and full pools are judged where they matter.
    auto serious = [](const BrokenPart& part) {
      return !part.advisory && !part.name.starts_with("lane_") && !part.name.starts_with("pool_");
    };
    auto broken = std::find_if(f_.broken.begin(), f_.broken.end(), serious);
    if (broken != f_.broken.end())
      say("gateway", Found::wrong, broken->name + " does not work: " + broken->detail, "tornadoctl gateway health");
    else if (f_.ready)
      say("gateway", Found::good, "ready, and every part works");
  }

  void account() {
    if (f_.user.deleted != Instant())
      return say("account", Found::wrong, "deleted " + ago(f_.user.deleted, f_.now), "tornadoctl user add");
    if (!f_.user.active)
      return say("account", Found::wrong, "suspended", "tornadoctl user reinstate " + f_.user.username);
    for (const auto& throttle : f_.throttles)
      if (throttle.banned_until > f_.now)
        return say("account", Found::note,
                   "sign-ins are throttled until " + iso8601(throttle.banned_until) + ", except from known addresses",
                   "tornadoctl throttle clear " + throttle.key);
    say("account", Found::good,
        "active, " + std::to_string(f_.signed_in.size()) + " of " + std::to_string(f_.user.max_devices) +
            " devices signed in");
  }

  void sign_in() {
    const std::string again = "sign in with the client again";
    if (!f_.device && !f_.last_ended)
      return say("sign_in", Found::wrong, "no device is signed in, and none ever was connected", again);
    if (!f_.device)
      return say("sign_in", Found::wrong,
                 "no device is signed in; the last session ended " + ago(f_.last_ended->ended, f_.now), again);
    if (f_.device->revoked != Instant())
      return say("sign_in", Found::wrong, "the device was signed out " + ago(f_.device->revoked, f_.now), again);
    bool live = std::any_of(f_.signed_in.begin(), f_.signed_in.end(),
                            [&](const Device& device) { return device.id == f_.device->id; });
    if (!live)
      return say("sign_in", Found::wrong, "the device's sign-in has ended: logged out, expired, or its place was taken",
                 again);
    say("sign_in", Found::good, "signed in, last seen " + ago(f_.device->last_seen, f_.now));
  }

  void session() {
    const std::string connect = "connect with the client";
    if (f_.session && f_.session->state == SessionState::active) {
      const Session& s = *f_.session;
      return say("session", Found::good,
                 std::string(name(s.presence)) + " (" + std::string(name(s.presence_reason)) + ") since " +
                     iso8601(s.presence_since) + ", connected " + ago(s.opened, f_.now));
    }
    if (f_.session)
      return say("session", Found::wrong, "it is " + std::string(name(f_.session->state)),
                 "wait a moment, then " + connect);
    if (f_.last_ended)
      return say("session", Found::wrong,
                 "there is none; the last one ended " + ago(f_.last_ended->ended, f_.now) + ": " +
                     std::string(name(f_.last_ended->reason.value_or(CloseReason::failed))),
                 connect);
    say("session", Found::wrong, "there never was one", connect);
  }

  void lease() {
    if (!f_.session && !f_.exhausted.empty())
      return say("lease", Found::wrong, "no address is free on lane " + f_.exhausted.front(),
                 "a larger pool in lanes." + f_.exhausted.front() + ".pool, or a shorter session.idle_ttl");
    if (!f_.session) return say("lease", Found::unknown, "without a session there is none");
    if (!f_.lease) return say("lease", Found::wrong, "the session has no addresses", report());
    if (f_.lease->dirty)
      return say("lease", Found::note, "the removal of a former peer is not confirmed; addresses are held back",
                 "tornadoctl gateway reconcile");
    std::string all;
    for (const auto& address : f_.lease->addresses) all += (all.empty() ? "" : ", ") + address.v4.str();
    say("lease", Found::good, all);
  }

  void peer(const LaneFacts& lane) {
    const std::string check = "peer_" + lane.lane.str();
    if (lane.unreadable)
      return say(check, Found::wrong, lane.interface + " cannot be read: " + lane.unreadable->detail(),
                 "tornadoctl gateway health; the gateway makes it again by itself");
    if (!f_.session) return say(check, Found::unknown, "without a session there is none");
    const LaneAddress* wanted = f_.session->on(lane.lane.str());
    if (wanted == nullptr) return say(check, Found::unknown, "the session is not on this lane");
    if (!lane.peer)
      return say(check, Found::wrong, lane.interface + " does not have the session's key",
                 "tornadoctl gateway reconcile; if it stays away, connect again with a new key");
    if (!allows(*lane.peer, allowed_of(*wanted)))
      return say(check, Found::wrong, lane.interface + " has the key with other addresses",
                 "tornadoctl gateway reconcile");
    if (!lane.preshared_right)
      return say(check, Found::wrong, lane.interface + " has the key with another preshared key than the session's",
                 "tornadoctl gateway reconcile");
    say(check, Found::good, lane.interface + " has the session's key and address");
  }

  void handshake() {
    if (!f_.session) return say("handshake", Found::unknown, "without a session there is none");
    Instant latest;
    const LaneFacts* used = nullptr;
    for (const auto& lane : f_.lanes) {
      if (!lane.peer || lane.peer->handshake <= latest) continue;
      latest = lane.peer->handshake;
      used = &lane;
    }
    if (used == nullptr) {
      std::string ports;
      for (const auto& lane : f_.lanes) ports += (ports.empty() ? "" : " and ") + std::to_string(lane.listen_port);
      return say("handshake", Found::wrong, "the client has never come through the tunnel",
                 "is the client's tunnel up, and does UDP " + ports + " reach this host?");
    }
    if (f_.now - latest > f_.handshake_margin)
      return say("handshake", Found::wrong, "the last one was " + ago(latest, f_.now) + ", on lane " + used->lane.str(),
                 "the client sleeps, is switched off or without network; nothing is to be done here");
    say("handshake", Found::good, ago(latest, f_.now) + " on lane " + used->lane.str());
  }

  void policy() {
    for (const auto& lane : f_.lanes) {
      bool used = f_.session && f_.session->lane == lane.lane;
      const std::string check = "policy_" + lane.lane.str();
      if (lane.mode == LaneMode::open || lane.mode == LaneMode::tor) {
        say(check, Found::good, "lane " + lane.lane.str() + " is open" + (used ? " and in use" : ""));
        continue;
      }
      std::string why = lane.mode == LaneMode::maintenance ? "shows the maintenance page" : "is closed";
      std::string remedy = "set tor.launch in the configuration, or use lane vpn";
      if (f_.tor) {
        why += ": Tor is " + std::string(name(f_.tor->phase));
        if (!f_.tor->reason.empty()) why += ", " + f_.tor->reason;
        remedy = f_.tor->remedy.empty() ? "tornadoctl tor status" : f_.tor->remedy;
      } else {
        why += ": this gateway runs without Tor";
      }
      say(check, used ? Found::wrong : Found::note, "lane " + lane.lane.str() + " " + why, remedy);
    }
  }

  void rights() {
    if (f_.reaches_nothing)
      return say("rights", Found::wrong, "the policy gives " + f_.user.username + " no right to go anywhere",
                 "tornadoctl policy show");
    if (f_.limit && f_.standing.exhausted()) {
      const std::string used = volume_text(f_.standing.used) + " of " + volume_text(f_.standing.limit) +
                               " are used up this month (limit " + f_.limit->name + ")";
      const std::string more = "a larger \"monthly\" in the policy, or wait for the next month";
      if (f_.limit->action == QuotaAction::block) return say("rights", Found::wrong, used + ": blocked", more);
      if (f_.limit->action == QuotaAction::throttle)
        return say("rights", Found::note, used + ": slowed down to " + rate_text(f_.limit->throttle), more);
      return say("rights", Found::note, used, more);
    }
    std::string detail = "no quota keeps them back; tornadoctl policy explain tells of single places";
    if (f_.limit && f_.limit->monthly != 0)
      detail = volume_text(f_.standing.used) + " of " + volume_text(f_.standing.limit) + " used this month";
    say("rights", Found::good, detail);
  }

  void firewall() {
    for (const auto& part : f_.broken)
      if (part.name == "foreign_chains")
        return say("firewall", Found::note, "another firewall of this host may drop what lanes carry: " + part.detail,
                   "docs/operations/firewall.md");
    say("firewall", Found::good, "no other firewall of this host stands in the way");
  }

  static std::string report() { return "this should not be: tornadoctl report"; }

  const WhyFacts& f_;
  Why out_;
};

}  // namespace

Why explain(const WhyFacts& facts) {
  return Judge(facts).take();
}

}  // namespace tornado::inline v1
