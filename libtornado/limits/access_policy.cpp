#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <unordered_map>

#include "base/try.hpp"
#include "limits/policy_document.hpp"
#include "tornado/limits.hpp"
#include "users/user_repo.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_grants = 100'000;
constexpr std::uint32_t most_classes = 65'535;

using Entries = std::vector<std::size_t>;  // indexes into rights, rising

}  // namespace

struct AccessPolicy::Impl {
  static Result<std::shared_ptr<const Impl>> make(PolicyDocument document) {
    auto out = std::make_shared<Impl>();
    out->document = std::move(document);
    TRY_VOID_PLAIN(out->compile());
    return std::shared_ptr<const Impl>(std::move(out));
  }

  /// Calls `take` with every user a subject means; "" is everyone.
  template <class Take>
  void each_user(const std::vector<PolicySubject>& who, Take&& take) const {
    for (const PolicySubject& subject : who) {
      if (subject.kind == PolicySubject::Kind::everyone) take(std::string());
      if (subject.kind == PolicySubject::Kind::user) take(subject.name);
      if (subject.kind != PolicySubject::Kind::group) continue;
      for (const PolicyGroup& group : document.groups)
        if (group.name == subject.name)
          for (const std::string& member : group.members) take(member);
    }
  }

  Result<void> compile() {
    for (std::size_t i = 0; i < document.rights.size(); ++i)
      each_user(document.rights[i].who, [&](const std::string& user) {
        Entries& entries = rights[user];
        if (entries.empty() || entries.back() != i) entries.push_back(i);
      });
    for (std::size_t i = 0; i < document.limits.size(); ++i)
      each_user(document.limits[i].who, [&](const std::string& user) { limits.try_emplace(user, i); });
    others = rights.contains("") ? rights.at("") : Entries();
    rights.erase("");
    for (auto& [user, entries] : rights) {
      Entries all;
      std::set_union(entries.begin(), entries.end(), others.begin(), others.end(), std::back_inserter(all));
      entries = std::move(all);
    }
    return number_classes();
  }

  Result<void> number_classes() {
    TRY_PLAIN(other_class, class_for(others));
    for (const auto& [user, entries] : rights) {
      TRY_PLAIN(classes[user], class_for(entries));
    }
    return {};
  }

  Result<std::uint32_t> class_for(const Entries& entries) {
    if (entries.empty()) return document.everything_by_default ? open_class : blocked_class;
    auto [known, fresh] = numbers.try_emplace(entries, first_class + static_cast<std::uint32_t>(numbers.size()));
    if (!fresh) return known->second;
    for (std::size_t entry : entries)
      for (const Prefix& to : document.rights[entry].to)
        for (const PortRange& ports : document.rights[entry].ports)
          granted.emplace_back(known->second, to, ports.protocol, ports.first, ports.last);
    if (granted.size() > most_grants || known->second > most_classes)
      return Error(errc::too_large, "rights: the combinations of entries that users have come to more than " +
                                        std::to_string(most_grants) + " grants; put users into fewer groups");
    return known->second;
  }

  const Entries& entries_of(const std::string& folded) const {
    auto found = rights.find(folded);
    return found == rights.end() ? others : found->second;
  }

  PolicyDocument document;
  std::unordered_map<std::string, Entries> rights;      // users that an entry names
  Entries others;                                       // of everybody else
  std::unordered_map<std::string, std::size_t> limits;  // first entry that names the user; "": everyone
  std::map<Entries, std::uint32_t> numbers;
  std::unordered_map<std::string, std::uint32_t> classes;
  std::uint32_t other_class = open_class;
  std::vector<AccessGrant> granted;
};

AccessPolicy::AccessPolicy() : impl_(std::make_shared<Impl>()) {}
AccessPolicy::~AccessPolicy() = default;
AccessPolicy::AccessPolicy(const AccessPolicy&) = default;
AccessPolicy::AccessPolicy(AccessPolicy&&) noexcept = default;
AccessPolicy& AccessPolicy::operator=(const AccessPolicy&) = default;
AccessPolicy& AccessPolicy::operator=(AccessPolicy&&) noexcept = default;

Result<AccessPolicy> AccessPolicy::parse(std::string_view document) {
  TRY_PLAIN(auto read, PolicyDocument::parse(document));
  AccessPolicy out;
  TRY_PLAIN(out.impl_, Impl::make(std::move(read)));
  return out;
}

bool AccessPolicy::empty() const noexcept {
  const PolicyDocument& document = impl_->document;
  return document.rights.empty() && document.limits.empty() && document.everything_by_default;
}

std::vector<std::string> AccessPolicy::users() const {
  std::set<std::string> out;
  auto add = [&](const std::string& user) {
    if (!user.empty()) out.insert(user);
  };
  for (const PolicyGroup& group : impl_->document.groups) out.insert(group.members.begin(), group.members.end());
  for (const PolicyRight& right : impl_->document.rights) impl_->each_user(right.who, add);
  for (const PolicyLimit& limit : impl_->document.limits) impl_->each_user(limit.who, add);
  return {out.begin(), out.end()};
}

std::uint32_t AccessPolicy::class_of(std::string_view username) const {
  auto found = impl_->classes.find(user_repo::fold(username));
  return found == impl_->classes.end() ? impl_->other_class : found->second;
}

std::optional<UserLimit> AccessPolicy::limit_of(std::string_view username) const {
  std::optional<std::size_t> first;
  for (const std::string& name : {user_repo::fold(username), std::string()})
    if (auto found = impl_->limits.find(name); found != impl_->limits.end() && (!first || found->second < *first))
      first = found->second;
  if (!first) return std::nullopt;
  return impl_->document.limits[*first].limit;
}

std::vector<AccessGrant> AccessPolicy::grants() const {
  return impl_->granted;
}

AccessVerdict AccessPolicy::explain(std::string_view username, const AccessTarget& target) const {
  AccessVerdict out;
  const auto& entries = impl_->entries_of(user_repo::fold(username));
  const std::string who(username);
  if (entries.empty()) {
    out.allowed = impl_->document.everything_by_default;
    out.rule = "default";
    out.detail = "no entry of rights names " + who + ", and the default is " + (out.allowed ? "everything" : "nothing");
    return out;
  }
  std::string names;
  for (std::size_t entry : entries) {
    const PolicyRight& right = impl_->document.rights[entry];
    names += (names.empty() ? "" : ", ") + right.name;
    if (!right.opens(target)) continue;
    out.allowed = true;
    out.rule = "rights " + right.name;
    out.detail = right.name + " opens it for " + who;
    return out;
  }
  out.rule = "rights";
  out.detail = who + " has the rights " + names + ", and none of them opens " + target.str();
  return out;
}

std::vector<PolicyExpectation> AccessPolicy::test() const {
  std::vector<PolicyExpectation> out = impl_->document.tests;
  for (PolicyExpectation& expectation : out) expectation.verdict = explain(expectation.user, expectation.target);
  return out;
}

Result<AccessTarget> AccessTarget::parse(std::string_view text) {
  const Error malformed(errc::invalid_argument, "ADDRESS:PORT, [IPV6]:PORT/udp or ADDRESS/icmp is expected, not '" +
                                                    std::string(text.substr(0, 80)) + "'");
  AccessTarget out;
  std::string_view place = text;
  if (auto slash = text.rfind('/'); slash != text.npos) {
    std::string_view protocol = text.substr(slash + 1);
    place = text.substr(0, slash);
    if (protocol == "udp")
      out.protocol = AccessProtocol::udp;
    else if (protocol == "icmp")
      out.protocol = AccessProtocol::icmp;
    else if (protocol != "tcp")
      return malformed;
  }
  if (out.protocol == AccessProtocol::icmp) {
    auto address = Address::parse(place);
    if (!address) return malformed;
    out.address = *address;
    return out;
  }
  auto endpoint = Endpoint::parse(place);
  if (!endpoint || endpoint->port == 0) return malformed;
  out.address = endpoint->address;
  out.port = endpoint->port;
  return out;
}

std::string AccessTarget::str() const {
  std::string where = protocol == AccessProtocol::icmp ? address.str() : Endpoint(address, port).str();
  return where + "/" + std::string(name(protocol));
}

std::string_view name(QuotaAction action) noexcept {
  static constexpr std::string_view names[] = {"warn", "throttle", "block"};
  return names[static_cast<std::size_t>(action)];
}

}  // namespace tornado::inline v1
