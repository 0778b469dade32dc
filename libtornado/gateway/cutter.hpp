#pragma once

#include "base/batcher.hpp"
#include "tornado/gateway.hpp"
#include "tornado/host.hpp"
#include "tornado/peer_programmer.hpp"
#include "tornado/session_store.hpp"
#include "tornado/tor_controller.hpp"

namespace tornado::inline v1 {

/// Takes what an ended session had in the kernel away, in two steps: `strip` stops its packets at once, `finish` reads
/// the final counters, removes the peer and flushes its tracked connections (I-25). Sessions that end together share
/// one reading of the interfaces.
class Cutter {
 public:
  Cutter(Runtime& runtime, PeerProgrammer& peers, Host& host, SessionStore& sessions);
  /// From now on the circuits of a session's address on that lane are closed, too.
  void circuits_of(TorController& tor, Lane lane);

  /// No packet of the session passes after this: the allowed IPs are gone, and a packet to its addresses finds no peer.
  Task<void> strip(const Session& session);
  /// The peer is gone from every lane, the session has its final counters, and no tracked connection of its addresses
  /// is left. Addresses that a newer instance of the device holds are left alone.
  /// `numbers`, if there are any, are added to. False: circuits of its may be left.
  Task<bool> finish(const Session& session, CutNumbers* numbers = nullptr);

 private:
  struct Item {
    explicit Item(const Session& session_) : session(session_) {}
    const Session& session;
    Result<void> result;
    std::size_t lanes_read = 0;
    bool circuits_gone = true;
    CutNumbers numbers;
  };
  Task<void> flush(Item& item);
  Task<void> flush_address(Item& item, const Address& address, const Lane& lane);
  boost::asio::awaitable<void> close_circuits(Item& item);
  boost::asio::awaitable<void> close_circuits_of(Item& item, const Address& address);
  boost::asio::awaitable<void> finish_all(std::vector<Item*>& batch);

  PeerProgrammer& peers_;
  Host& host_;
  SessionStore& sessions_;
  TorController* tor_ = nullptr;
  Lane tor_lane_;
  Batcher<Item> batches_;
};

}  // namespace tornado::inline v1
