#include "verify/verdict.hpp"

#include <netinet/in.h>

#include <algorithm>

namespace tornado::inline v1::verify {
namespace {

std::string_view words_for(Answer answer) {
  switch (answer) {
    case Answer::reset:
      return "refused at once";
    case Answer::connection:
      return "a connection";
    case Answer::reply:
      return "a reply";
    case Answer::none:
      break;
  }
  return "an answer";
}

}  // namespace

std::string_view name(Verdict verdict) noexcept {
  static constexpr std::string_view names[] = {"held", "leaked", "answered", "error"};
  return names[static_cast<std::size_t>(verdict)];
}

Answer kind_of(const Seen& packet) noexcept {
  if (packet.protocol == IPPROTO_TCP && (packet.flags & tcp_rst) != 0) return Answer::reset;
  if (packet.protocol == IPPROTO_TCP && (packet.flags & tcp_syn) != 0) return Answer::connection;
  if (packet.protocol == IPPROTO_UDP) return Answer::reply;
  return Answer::none;
}

Finding judge(const Probe& probe, const Evidence& evidence, std::uint64_t lost) {
  Finding out;
  out.probe = probe.name;
  out.what = probe.what;
  out.family = probe.v6() ? 6 : 4;
  auto say = [&](Verdict verdict, std::string observed) {
    out.verdict = verdict;
    out.observed = std::move(observed);
    return out;
  };
  if (!evidence.outside.empty()) return say(Verdict::leaked, evidence.outside.front());
  if (evidence.delivered) return say(Verdict::answered, "delivered to a local port");
  for (Answer answer : evidence.answers) {
    if (answer == probe.allowed && answer != Answer::none) continue;
    return say(Verdict::answered, answer == Answer::none ? evidence.strange : std::string(words_for(answer)));
  }
  if (lost > 0) return say(Verdict::error, "the capture lost " + std::to_string(lost) + " packets; try again");
  if (!evidence.answers.empty()) {
    if (probe.allowed == Answer::reset) return say(Verdict::held, "refused at once");
    return say(Verdict::held, probe.allowed == Answer::reply ? "answered by the gateway" : "redirected");
  }
  if (evidence.arrived) return say(Verdict::held, "dropped");
  if (probe.forged) return say(Verdict::held, "refused by WireGuard");
  return say(Verdict::error, "did not come through the tunnel");
}

Verdict worst(std::span<const Finding> findings) noexcept {
  static constexpr Verdict order[] = {Verdict::leaked, Verdict::answered, Verdict::error};
  for (Verdict verdict : order)
    if (std::any_of(findings.begin(), findings.end(), [&](const Finding& f) { return f.verdict == verdict; }))
      return verdict;
  return Verdict::held;
}

}  // namespace tornado::inline v1::verify
