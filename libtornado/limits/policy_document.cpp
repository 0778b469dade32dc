#include "limits/policy_document.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <charconv>
#include <set>

#include "base/json.hpp"
#include "base/try.hpp"
#include "limits/quantity.hpp"
#include "users/user_repo.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_bytes = 1 << 20, most_entries = 1'000, most_names = 100'000, most_name = 128;

Error invalid(const std::string& where, std::string_view why) {
  return Error(errc::invalid_argument, where + ": " + std::string(why));
}
Error invalid(const std::string& where, const Error& why) {
  return Error(why.code(), where + ": " + why.detail());
}

std::string at(const std::string& where, std::size_t index) {
  return where + "[" + std::to_string(index) + "]";
}

Result<std::string> text_of(const json::value& value, const std::string& where) {
  if (!value.is_string() || value.get_string().empty() || value.get_string().size() > most_name)
    return invalid(where, "a text of 1 to " + std::to_string(most_name) + " bytes is expected");
  return std::string(value.get_string());
}

/// A list of texts; a single text is a list of one.
Result<std::vector<std::string>> texts_of(const json::object& object, std::string_view key, const std::string& where) {
  std::vector<std::string> out;
  const json::value* value = object.if_contains(key);
  const std::string place = where + "." + std::string(key);
  if (value == nullptr) return out;
  if (value->is_string()) {
    TRY_PLAIN(auto one, text_of(*value, place));
    out.push_back(std::move(one));
    return out;
  }
  if (!value->is_array()) return invalid(place, "a list of texts is expected");
  const json::array& list = value->get_array();
  if (list.size() > most_names) return Error(errc::too_large, place + ": too many entries");
  for (std::size_t i = 0; i < list.size(); ++i) {
    TRY_PLAIN(auto one, text_of(list[i], at(place, i)));
    out.push_back(std::move(one));
  }
  return out;
}

Result<void> check_keys(const json::object& object, std::initializer_list<std::string_view> known,
                        const std::string& where) {
  for (const auto& [key, value] : object)
    if (std::find(known.begin(), known.end(), std::string_view(key)) == known.end())
      return invalid(where.empty() ? std::string(key) : where + "." + std::string(key), "no such key");
  return {};
}

Result<const json::array*> entries_of(const json::object& document, std::string_view key) {
  static const json::array none;
  const json::value* value = document.if_contains(key);
  if (value == nullptr) return &none;
  if (!value->is_array()) return invalid(std::string(key), "a list of objects is expected");
  if (value->get_array().size() > most_entries)
    return Error(errc::too_large, std::string(key) + ": at most " + std::to_string(most_entries) + " entries");
  return &value->get_array();
}

Result<PortRange> port_range(std::string_view text) {
  PortRange out;
  auto slash = text.find('/');
  std::string_view protocol = text.substr(0, slash);
  bool known = false;
  for (auto candidate : {AccessProtocol::tcp, AccessProtocol::udp, AccessProtocol::icmp})
    if (name(candidate) == protocol) {
      out.protocol = candidate;
      known = true;
    }
  if (known && slash == text.npos) return out;
  if (known && out.protocol != AccessProtocol::icmp) {
    std::string_view rest = text.substr(slash + 1);
    const char* end = rest.data() + rest.size();
    auto [dash, ec] = std::from_chars(rest.data(), end, out.first);
    out.last = out.first;
    if (ec == std::errc() && dash != end && *dash == '-') {
      auto [stop, failed] = std::from_chars(dash + 1, end, out.last);
      dash = stop;
      ec = failed;
    }
    if (ec == std::errc() && dash == end && out.first > 0 && out.first <= out.last) return out;
  }
  return Error(errc::invalid_argument,
               "tcp/443, tcp/8000-8100, udp/53, tcp, udp or icmp is expected, not '" + std::string(text) + "'");
}

class Reader {
 public:
  Result<PolicyDocument> read(const json::object& document) {
    TRY_VOID_PLAIN(check_keys(document, {"groups", "default", "rights", "limits", "tests"}, ""));
    if (const json::value* groups = document.if_contains("groups")) TRY_VOID_PLAIN(read_groups(*groups));
    if (const json::value* value = document.if_contains("default")) {
      TRY_PLAIN(auto text, text_of(*value, "default"));
      if (text != "everything" && text != "nothing") return invalid("default", "\"everything\" or \"nothing\"");
      out_.everything_by_default = text == "everything";
    }
    TRY_VOID_PLAIN(
        each(document, "rights", [this](const auto& entry, const auto& where) { return right(entry, where); }));
    TRY_VOID_PLAIN(
        each(document, "limits", [this](const auto& entry, const auto& where) { return limit(entry, where); }));
    TRY_VOID_PLAIN(
        each(document, "tests", [this](const auto& entry, const auto& where) { return test(entry, where); }));
    return std::move(out_);
  }

 private:
  template <class Take>
  Result<void> each(const json::object& document, std::string_view key, Take take) {
    TRY_PLAIN(const json::array* entries, entries_of(document, key));
    for (std::size_t i = 0; i < entries->size(); ++i) {
      const std::string where = at(std::string(key), i);
      if (!(*entries)[i].is_object()) return invalid(where, "an object is expected");
      TRY_VOID_PLAIN(take((*entries)[i].get_object(), where));
    }
    return {};
  }

  Result<void> read_groups(const json::value& value) {
    if (!value.is_object()) return invalid("groups", "an object of lists is expected");
    if (value.get_object().size() > most_entries)
      return Error(errc::too_large, "groups: at most " + std::to_string(most_entries));
    for (const auto& [key, members] : value.get_object()) {
      PolicyGroup& group = out_.groups.emplace_back();
      group.name = fold_name(key);
      TRY_PLAIN(group.members, texts_of(value.get_object(), key, "groups"));
      for (std::string& member : group.members) member = fold_name(member);
      if (!group_names_.insert(group.name).second) return invalid("groups." + group.name, "is there twice");
    }
    return {};
  }

  static std::string fold_name(std::string_view name) { return user_repo::fold(name); }

  Result<std::string> entry_name(const json::object& entry, const std::string& where, std::set<std::string>& taken) {
    const json::value* value = entry.if_contains("name");
    if (value == nullptr) return invalid(where + ".name", "is missing");
    TRY_PLAIN(auto name, text_of(*value, where + ".name"));
    if (!taken.insert(name).second) return invalid(where + ".name", "'" + name + "' is there twice");
    return name;
  }

  Result<std::vector<PolicySubject>> who_of(const json::object& entry, const std::string& where) {
    TRY_PLAIN(auto texts, texts_of(entry, "who", where));
    if (texts.empty()) return invalid(where + ".who", "is missing");
    std::vector<PolicySubject> out;
    for (const std::string& text : texts) {
      PolicySubject subject;
      if (text.starts_with("group:")) {
        subject.kind = PolicySubject::Kind::group;
        subject.name = fold_name(text.substr(6));
        if (!group_names_.contains(subject.name)) return invalid(where + ".who", "no group '" + subject.name + "'");
      } else if (text.starts_with("user:")) {
        subject.kind = PolicySubject::Kind::user;
        subject.name = fold_name(text.substr(5));
      } else if (text != "everyone") {
        return invalid(where + ".who", "\"everyone\", \"group:NAME\" or \"user:NAME\", not '" + text + "'");
      }
      out.push_back(std::move(subject));
    }
    return out;
  }

  Result<void> right(const json::object& entry, const std::string& where) {
    TRY_VOID_PLAIN(check_keys(entry, {"name", "who", "to", "ports"}, where));
    PolicyRight& out = out_.rights.emplace_back();
    TRY_PLAIN(out.name, entry_name(entry, where, right_names_));
    TRY_PLAIN(out.who, who_of(entry, where));
    TRY_PLAIN(auto to, texts_of(entry, "to", where));
    TRY_PLAIN(auto ports, texts_of(entry, "ports", where));
    if (to.empty()) return invalid(where + ".to", "is missing: \"any\", an address or a prefix");
    if (ports.empty()) return invalid(where + ".ports", "is missing: tcp/443, udp, icmp, ...");
    for (const std::string& text : to) {
      auto added = add_place(out, text);
      if (!added) return invalid(where + ".to", added.error());
    }
    for (const std::string& text : ports) {
      auto range = port_range(text);
      if (!range) return invalid(where + ".ports", range.error());
      out.ports.push_back(*range);
    }
    return {};
  }

  static Result<void> add_place(PolicyRight& out, const std::string& text) {
    if (text == "any") {
      out.to.emplace_back("0.0.0.0/0");
      out.to.emplace_back("::/0");
    } else if (auto address = Address::parse(text)) {
      out.to.emplace_back(*address, address->is_v4() ? 32 : 128);
    } else {
      TRY_PLAIN(auto prefix, Prefix::parse(text));
      out.to.push_back(prefix);
    }
    return {};
  }

  Result<std::uint64_t> amount(const json::object& entry, std::string_view key, const std::string& where,
                               Result<std::uint64_t> (*parse)(std::string_view)) {
    const json::value* value = entry.if_contains(key);
    if (value == nullptr) return std::uint64_t{0};
    const std::string place = where + "." + std::string(key);
    TRY_PLAIN(auto text, text_of(*value, place));
    auto parsed = parse(text);
    if (!parsed) return invalid(place, parsed.error());
    return parsed;
  }

  Result<void> limit(const json::object& entry, const std::string& where) {
    TRY_VOID_PLAIN(check_keys(entry, {"name", "who", "up", "down", "monthly", "then", "throttle", "warn_at"}, where));
    PolicyLimit& out = out_.limits.emplace_back();
    UserLimit& limit = out.limit;
    TRY_PLAIN(limit.name, entry_name(entry, where, limit_names_));
    TRY_PLAIN(out.who, who_of(entry, where));
    TRY_PLAIN(limit.up, amount(entry, "up", where, parse_rate));
    TRY_PLAIN(limit.down, amount(entry, "down", where, parse_rate));
    TRY_PLAIN(limit.monthly, amount(entry, "monthly", where, parse_volume));
    TRY_PLAIN(limit.throttle, amount(entry, "throttle", where, parse_rate));
    TRY_VOID_PLAIN(quota(entry, where, limit));
    if (limit.up == 0 && limit.down == 0 && limit.monthly == 0)
      return invalid(where, "limits nothing: \"up\", \"down\" or \"monthly\" is expected");
    return {};
  }

  Result<void> quota(const json::object& entry, const std::string& where, UserLimit& limit) {
    if (const json::value* then = entry.if_contains("then")) {
      TRY_PLAIN(auto text, text_of(*then, where + ".then"));
      bool known = false;
      for (auto action : {QuotaAction::warn, QuotaAction::throttle, QuotaAction::block})
        if (name(action) == text) {
          limit.action = action;
          known = true;
        }
      if (!known) return invalid(where + ".then", "\"warn\", \"throttle\" or \"block\"");
      if (limit.monthly == 0) return invalid(where + ".then", "needs \"monthly\"");
    }
    if ((limit.action == QuotaAction::throttle) != (limit.throttle != 0))
      return invalid(where + ".throttle", "belongs to \"then\": \"throttle\", and that needs it");
    const json::value* warnings = entry.if_contains("warn_at");
    if (warnings == nullptr) return {};
    limit.warnings.clear();
    const std::string why = "a rising list of whole numbers from 1 to 99 is expected";
    if (!warnings->is_array() || limit.monthly == 0) return invalid(where + ".warn_at", why + ", beside \"monthly\"");
    for (const json::value& value : warnings->get_array()) {
      const std::int64_t* percent = value.if_int64();
      int last = limit.warnings.empty() ? 0 : limit.warnings.back();
      if (percent == nullptr || *percent <= last || *percent > 99) return invalid(where + ".warn_at", why);
      limit.warnings.push_back(static_cast<int>(*percent));
    }
    return {};
  }

  Result<void> test(const json::object& entry, const std::string& where) {
    TRY_VOID_PLAIN(check_keys(entry, {"user", "allow", "deny"}, where));
    const json::value* user = entry.if_contains("user");
    if (user == nullptr) return invalid(where + ".user", "is missing");
    TRY_PLAIN(auto name, text_of(*user, where + ".user"));
    std::size_t before = out_.tests.size();
    for (std::string_view key : {"allow", "deny"}) {
      TRY_PLAIN(auto targets, texts_of(entry, key, where));
      for (const std::string& text : targets) {
        auto target = AccessTarget::parse(text);
        if (!target) return invalid(where + "." + std::string(key), target.error());
        PolicyExpectation& expectation = out_.tests.emplace_back();
        expectation.user = name;
        expectation.target = *target;
        expectation.allowed = key == "allow";
      }
    }
    if (out_.tests.size() == before) return invalid(where, "\"allow\" or \"deny\" is expected");
    return {};
  }

  PolicyDocument out_;
  std::set<std::string> group_names_, right_names_, limit_names_;
};

}  // namespace

bool PolicyRight::opens(const AccessTarget& target) const noexcept {
  auto open_port = [&](const PortRange& range) {
    return range.protocol == target.protocol &&
           (range.protocol == AccessProtocol::icmp || (range.first <= target.port && target.port <= range.last));
  };
  return std::any_of(to.begin(), to.end(), [&](const Prefix& prefix) { return prefix.contains(target.address); }) &&
         std::any_of(ports.begin(), ports.end(), open_port);
}

Result<PolicyDocument> PolicyDocument::parse(std::string_view text) {
  if (text.size() > most_bytes) return Error(errc::too_large, "a policy has at most 1 MiB");
  TRY_PLAIN(auto parsed, parse_json(text, true));
  if (!parsed.is_object()) return Error(errc::invalid_argument, "a policy is an object");
  return Reader().read(parsed.get_object());
}

}  // namespace tornado::inline v1
