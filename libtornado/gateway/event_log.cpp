#include "gateway/event_log.hpp"

#include <boost/json/object.hpp>

#include "base/json.hpp"

namespace tornado::inline v1 {

void EventLog::publish(std::string name, std::string json) {
  Event& event = events_.emplace_back();
  event.sequence = ++sequence_;
  event.time = runtime_.now();
  event.name = std::move(name);
  event.json = std::move(json);
  if (events_.size() > kept) events_.pop_front();
  notifier_.notify();
}

namespace {

boost::json::object fields_of(std::string_view action, const Session& session) {
  boost::json::object fields;
  fields["action"] = action;
  fields["session_id"] = session.id();
  fields["instance"] = session.instance.str();
  fields["user_id"] = session.user.str();
  fields["device_id"] = session.device.str();
  fields["client_ip"] = session.seen_from.str();
  if (const auto* vpn = session.on("vpn")) fields["vpn_ip"] = vpn->v4.str();
  if (const auto* tor = session.on("tor")) fields["tor_ip"] = tor->v4.str();
  fields["state"] = name(session.presence);
  return fields;
}

}  // namespace

void EventLog::publish_fields(std::string_view action, boost::json::object& fields) {
  fields["timestamp"] = std::chrono::duration_cast<Seconds>(runtime_.now().time_since_epoch()).count();
  publish(std::string(action), to_json(fields));
}

void EventLog::session(std::string_view action, const Session& session, std::optional<bool> recovered) {
  auto fields = fields_of(action, session);
  if (recovered) fields["recovered"] = *recovered;
  if (session.reason) fields["close_reason"] = name(*session.reason);
  publish_fields(action, fields);
}

void EventLog::presence(const Session& session, Presence before) {
  auto fields = fields_of("session_presence", session);
  fields["previous"] = name(before);
  fields["reason"] = name(session.presence_reason);
  publish_fields("session_presence", fields);
}

void EventLog::roamed(const Session& session, const Address& before) {
  auto fields = fields_of("session_roamed", session);
  fields["previous_client_ip"] = shown_address(before, privacy_).str();
  fields["roamed"] = session.roamed;
  publish_fields("session_roamed", fields);
}

Task<EventBatch> EventLog::after(std::uint64_t sequence) {
  last_read_ = runtime_.now();
  std::uint64_t seen = notifier_.revision();
  while (sequence_ <= sequence) {
    bool told = co_await notifier_.wait(seen);
    if (!told) co_return Error(errc::cancelled);
    seen = notifier_.revision();
  }
  last_read_ = runtime_.now();
  EventBatch batch;
  for (const auto& event : events_)
    if (event.sequence > sequence && batch.events.size() < 1000) batch.events.push_back(event);
  batch.dropped = batch.events.front().sequence - sequence - 1;
  co_return batch;
}

}  // namespace tornado::inline v1
