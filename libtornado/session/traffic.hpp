#pragma once

#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// What a reading of a lane has brought.
class TrafficDelta {
 public:
  TrafficDelta() {}
  std::uint64_t received = 0, sent = 0;  ///< bytes since the reading before
  bool shaken = false;                   ///< there is a handshake that was not there before
  bool used = false;                     ///< more was received than keepalives and handshakes come to
};

/// Folds a reading into the account of its lane (I-09). A life of the counters is over when one of them fell, when a
/// peer that had shaken hands has not, or when the interface is another one.
TrafficDelta fold(LaneCounters& account, const Observation& seen, Instant now);

/// Does what `fold` would do if nothing has moved since an earlier reading. False: something has, and nothing is done.
bool read_again(LaneCounters& account, const Observation& seen, Instant now);

/// The counters begin at zero: what they came to is kept.
void restart(LaneCounters& account);

/// Of a session: its account of a lane, made if there is none.
LaneCounters& account_on(Session& session, const Lane& lane);

/// Totals of the session from the accounts of its lanes.
void sum_up(Session& session);

}  // namespace tornado::inline v1
