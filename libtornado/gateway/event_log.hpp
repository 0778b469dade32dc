#pragma once

#include <boost/json/fwd.hpp>
#include <deque>

#include "base/notifier.hpp"
#include "tornado/event.hpp"
#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// The last events, for observers who read at their own pace. Bounded; loop thread.
class EventLog {
 public:
  /// `privacy`: of outer addresses that no session has any more.
  EventLog(Runtime& runtime, AddressPrivacy privacy) : runtime_(runtime), privacy_(privacy), notifier_(runtime) {}

  void publish(std::string name, std::string json);
  /// A session event with the names and fields of contract 4.5.
  void session(std::string_view action, const Session& session, std::optional<bool> recovered = std::nullopt);
  void presence(const Session& session, Presence before);
  void roamed(const Session& session, const Address& before);
  /// Whether anybody has read lately: events that come by the thousand are made only then.
  bool observed() const { return runtime_.now() - last_read_ < Seconds(60); }
  Task<EventBatch> after(std::uint64_t sequence);
  std::uint64_t last() const noexcept { return sequence_; }

 private:
  void publish_fields(std::string_view action, boost::json::object& fields);

  static constexpr std::size_t kept = 8192;
  Runtime& runtime_;
  AddressPrivacy privacy_;
  Notifier notifier_;
  std::deque<Event> events_;
  std::uint64_t sequence_ = 0;
  Instant last_read_;
};

}  // namespace tornado::inline v1
