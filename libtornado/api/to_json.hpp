#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "tornado/gateway.hpp"

namespace tornado::inline v1 {

/// Values as the control socket shows them, under the contract's names. Times are ISO 8601 or null.
boost::json::object shown(const User& user);
boost::json::object shown(const Device& device);
boost::json::object shown(const Session& session);
boost::json::object shown(const Lease& lease, Instant now);
boost::json::object shown(const KeyInfo& key);
boost::json::object shown(const Component& component);
/// How a user stands under a monthly quota.
void add_quota(boost::json::object& out, const QuotaStanding& standing);
/// What was cut, without the account or device itself.
void add_cut(boost::json::object& out, const Revocation& revocation);
boost::json::value shown_time(Instant instant);

template <class T>
boost::json::array shown_list(const std::vector<T>& values) {
  boost::json::array out;
  for (const auto& value : values) out.push_back(shown(value));
  return out;
}

}  // namespace tornado::inline v1
