#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// Something an observer may want to know. Nothing inside Tornado reacts to an event.
class Event {
 public:
  Event() {}
  std::uint64_t sequence = 0;  ///< without gaps; a gap a reader sees is what it has missed
  Instant time;
  std::string name;  ///< "session_created", "pool_nearly_exhausted"; listed in docs/events.md
  std::string json;  ///< the fields as a JSON object, `action` and `timestamp` as contract 4.5 has them
};

/// A batch of events, oldest first.
class EventBatch {
 public:
  EventBatch() {}
  std::vector<Event> events;
  std::uint64_t dropped = 0;  ///< events between the reader's position and the first one here that are gone
};

}  // namespace tornado::inline v1
