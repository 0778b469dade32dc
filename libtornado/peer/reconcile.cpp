#include <algorithm>

#include "base/pace.hpp"
#include "base/task_group.hpp"
#include "base/try.hpp"
#include "peer/peer_programmer_impl.hpp"

// g++ 12 pairs a frame's allocation with the wrong deallocation when it inlines a short coroutine.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t told_at_once = 500;
constexpr std::size_t most_removed_unasked = 5;

enum class Act : std::uint8_t { set, strip, remove };
/// Of a wanted peer; in doubt: right where it could be read.
enum class Standing : std::uint8_t { right, wrong, in_doubt };

/// What is to be done on one lane.
class LanePlan {
 public:
  explicit LanePlan(LanePtr lane_) : lane(std::move(lane_)), doubt(lane->doubt()) {}
  LanePtr lane;
  std::uint64_t doubt;  // when the comparison began
  SnapshotPtr snapshot;
  std::size_t right = 0;  // wanted peers that are as they should be
  std::vector<PublicKey> set, strip, remove, foreign;
  bool good = true;
  Result<void> outcome, removals;
};

/// One comparison of the interfaces with what is wanted, and its execution. The interfaces are read once each; what is
/// done about a key is decided again at the moment of doing, from what is wanted then.
class Pass {
 public:
  explicit Pass(PeerWork& programmer)
      : my_(programmer), guarded_(programmer.guard), pace_(programmer.runtime), began_(programmer.runtime.now()) {
    for (LanePtr& lane : my_.all_lanes()) plans_.emplace_back(std::move(lane));
  }

  Task<void> compare();
  Task<void> apply();
  Task<void> apply(LanePlan& plan);
  Difference take() {
    difference_.refused.assign(refused_.begin(), refused_.end());
    return std::move(difference_);
  }
  /// Gives up what was read, in slices.
  boost::asio::awaitable<void> end();

 private:
  Task<void> read();
  boost::asio::awaitable<void> judge_wanted();
  Standing judge(const WantedPeer& peer);
  boost::asio::awaitable<void> judge_present(LanePlan& plan);
  void judge(LanePlan& plan, const Peer& peer);
  void judge_adopted();
  void judge_foreign(LanePlan& plan, const Peer& peer);
  void report_foreign();
  void forget_absent();
  void weigh_removals();

  Task<void> drive(LanePlan& plan, Act act, std::vector<PublicKey>& keys);
  Task<void> drive_singly(LanePlan& plan, Act act, std::vector<PublicKey>& keys);
  std::optional<Peer> peer_for(const LanePlan& plan, Act act, const PublicKey& key) const;
  void note_done(LanePlan& plan, Act act, const PublicKey& key);
  void note_refused(LanePlan& plan, const PublicKey& key, const std::string& detail);
  boost::asio::awaitable<void> hold_refused(LanePlan& plan);
  boost::asio::awaitable<void> note_swallowed(LanePlan& plan);
  bool is_parked(const PublicKey& key) const;

  PeerWork& my_;
  KeyGuard::Pass guarded_;
  Pace pace_;
  Instant began_;
  std::vector<LanePlan> plans_;
  bool all_read_ = true;
  std::unordered_set<PublicKey> surplus_, foreign_, refused_;
  std::vector<PublicKey> unwanted_;  // keys of ours that are retired or doomed
  std::unordered_set<PublicKey> doomed_present_;
  std::unordered_map<PublicKey, int> removals_left_;
  std::vector<AbsentPeer> absent_;
  std::size_t held_ = 0;  // foreign peers that are not removed unasked
  Difference difference_;
};

/// One after the other: the kernel makes one answer at a time, and who changes a lane is not to wait for two.
Task<void> Pass::read() {
  Result<void> outcome;
  for (LanePlan& plan : plans_) {
    my_.wireguard.expect(plan.lane->interface(), my_.book.held_count());
    auto snapshot = co_await plan.lane->read();
    if (snapshot) {
      plan.snapshot = *snapshot;
      continue;
    }
    if (snapshot.error().code() == errc::cancelled) co_return snapshot.error();
    plan.good = false;
    all_read_ = false;
    if (snapshot.error().code() == errc::interface_missing) {
      difference_.interfaces_missing.push_back(plan.lane->interface());
    } else if (outcome) {
      outcome = snapshot.error();
    }
  }
  co_return outcome;
}

/// Compares. An error: some lane could not be read; the difference covers the others (`take`). Cancelled: nothing was
/// compared.
Task<void> Pass::compare() {
  auto complete = co_await read();
  if (!complete && complete.error().code() == errc::cancelled) co_return complete;
  auto task = judge_wanted();
  co_await std::move(task);
  for (LanePlan& plan : plans_) {
    if (!plan.snapshot) continue;
    auto task = judge_present(plan);
    co_await std::move(task);
  }
  difference_.surplus.assign(surplus_.begin(), surplus_.end());
  difference_.foreign.assign(foreign_.begin(), foreign_.end());
  report_foreign();
  forget_absent();
  weigh_removals();
  co_return complete;
}

boost::asio::awaitable<void> Pass::judge_wanted() {
  judge_adopted();
  auto listing = my_.book.keys(my_.runtime);
  const auto keys = co_await std::move(listing);
  for (const PublicKey& key : keys) {
    if (pace_.due()) co_await pace_.yield();
    const WantedPeer* peer = my_.book.wanted(key);
    if (peer == nullptr) unwanted_.push_back(key);
    if (peer == nullptr || my_.guard.off_limits(key)) continue;
    const Standing standing = judge(*peer);
    if (standing == Standing::wrong) difference_.missing.push_back(*peer);
    if (is_parked(key)) difference_.parked.push_back(key);
  }
}

void Pass::judge_adopted() {
  for (const auto& [place, peer] : my_.adopted) {
    if (my_.guard.off_limits(peer.key)) continue;
    for (LanePlan& plan : plans_) {
      bool absent = plan.snapshot && plan.lane->lane() == peer.lane && plan.snapshot->find(peer.key) == nullptr;
      if (!absent) continue;
      difference_.adopted_missing.push_back(peer);
      plan.set.push_back(peer.key);
    }
  }
}

/// Kept as it is if it is adopted and what it was then; foreign otherwise.
void Pass::judge_foreign(LanePlan& plan, const Peer& peer) {
  ForeignPeer found(plan.lane->lane(), peer.key);
  found.allowed = peer.allowed;
  found.preshared = peer.preshared;
  const ForeignPeer* known = my_.adopted_on(peer.key, plan.lane->lane());
  if (known != nullptr && allows(peer, known->allowed) && known->preshared == peer.preshared) return;
  foreign_.insert(peer.key);
  difference_.foreign_on.push_back(std::move(found));
}

/// Over all lanes of the peer; plans what is wrong.
Standing Pass::judge(const WantedPeer& peer) {
  Standing standing = Standing::right;
  for (LanePlan& plan : plans_) {
    const LaneAddress* address = address_on(peer, plan.lane->lane());
    if (address == nullptr) continue;
    const Peer* found = plan.snapshot ? plan.snapshot->find(peer.key) : nullptr;
    if (found != nullptr && is_right(*found, peer, *address)) {
      ++plan.right;
      plan.lane->refusals.settle(peer.key);
      continue;
    }
    // A lane that could not be read is in doubt; one without interface has nobody.
    bool missing =
        plan.snapshot || std::find(difference_.interfaces_missing.begin(), difference_.interfaces_missing.end(),
                                   plan.lane->interface()) != difference_.interfaces_missing.end();
    if (missing)
      standing = Standing::wrong;
    else if (standing == Standing::right)
      standing = Standing::in_doubt;
    if (plan.snapshot) plan.set.push_back(peer.key);
    if (plan.snapshot && found == nullptr) absent_.emplace_back(peer.owner, peer.key, plan.lane->lane());
  }
  return standing;
}

boost::asio::awaitable<void> Pass::judge_present(LanePlan& plan) {
  // So many wanted peers were found right that there is room for no other.
  if (plan.right == plan.snapshot->interface.peers.size()) co_return;
  for (const Peer& peer : plan.snapshot->interface.peers) {
    if (pace_.due()) co_await pace_.yield();
    if (!my_.guard.off_limits(peer.key)) judge(plan, peer);
  }
}

void Pass::judge(LanePlan& plan, const Peer& peer) {
  const Holding* holding = my_.book.find(peer.key);
  if (holding != nullptr && holding->state == KeyState::adopted) return judge_foreign(plan, peer);
  if (holding == nullptr) {
    judge_foreign(plan, peer);
    if (my_.foreign == ForeignPeers::remove) plan.foreign.push_back(peer.key);
    return;
  }
  if (holding->state == KeyState::retired) {
    if (peer.allowed.empty()) return;
    plan.strip.push_back(peer.key);
  } else {
    if (holding->peer() != nullptr && address_on(*holding->peer(), plan.lane->lane()) != nullptr) return;
    if (holding->state == KeyState::doomed) {
      doomed_present_.insert(peer.key);
      ++removals_left_[peer.key];
    }
    plan.remove.push_back(peer.key);
  }
  surplus_.insert(peer.key);
}

void Pass::report_foreign() {
  for (const LanePlan& plan : plans_)
    if (plan.snapshot) my_.foreign_found[plan.lane->lane()].clear();
  for (const ForeignPeer& peer : difference_.foreign_on) my_.foreign_found[peer.lane].push_back(peer);
  std::vector<PublicKey> fresh;
  for (const PublicKey& key : foreign_)
    if (!my_.reported.contains(key)) fresh.push_back(key);
  if (all_read_) my_.reported = foreign_;
  if (fresh.empty()) return;
  my_.runtime.log().write(LogLevel::warning, "foreign_peer",
                          {{"count", std::to_string(fresh.size())}, {"key", fresh.front().str()}});
}

/// To a restored store the peers of every session it does not know are foreign: so many at once wait for a person.
void Pass::weigh_removals() {
  std::unordered_set<PublicKey> all;
  std::size_t present = 0;
  for (const LanePlan& plan : plans_) {
    all.insert(plan.foreign.begin(), plan.foreign.end());
    if (plan.snapshot) present = std::max(present, plan.snapshot->interface.peers.size());
  }
  const bool before = my_.removals_held > 0, confirmed = began_ < my_.removals_confirmed_until;
  const bool many = before ? !all.empty() : all.size() > most_removed_unasked && all.size() * 10 > present;
  if (many && !confirmed) {
    held_ = all.size();
    return;
  }
  for (LanePlan& plan : plans_) plan.remove.insert(plan.remove.end(), plan.foreign.begin(), plan.foreign.end());
}

/// Keys whose removal was in doubt, and which turn out to be nowhere.
void Pass::forget_absent() {
  if (!all_read_) return;
  for (const PublicKey& key : unwanted_) {
    const Holding* holding = my_.book.find(key);
    bool absent = holding != nullptr && holding->state == KeyState::doomed && !doomed_present_.contains(key);
    if (absent && !my_.guard.off_limits(key)) my_.book.forget(key);
  }
}

std::optional<Peer> Pass::peer_for(const LanePlan& plan, Act act, const PublicKey& key) const {
  if (my_.guard.off_limits(key)) return std::nullopt;
  const Holding* holding = my_.book.find(key);
  const WantedPeer* wanted = my_.book.wanted(key);
  const LaneAddress* address = wanted == nullptr ? nullptr : address_on(*wanted, plan.lane->lane());
  if (act == Act::set) {
    const ForeignPeer* adopted = my_.adopted_on(key, plan.lane->lane());
    if (adopted != nullptr) return programmed(*adopted);
    return address == nullptr ? std::nullopt : std::optional(programmed(*wanted, *address));
  }
  bool retired = holding != nullptr && holding->state == KeyState::retired;
  if (act == Act::strip) return retired ? std::optional(stripped(key)) : std::nullopt;
  bool ours = address != nullptr || retired || (holding != nullptr && holding->state == KeyState::adopted);
  return ours ? std::nullopt : std::optional(removal(key));
}

void Pass::note_done(LanePlan& plan, Act act, const PublicKey& key) {
  if (act == Act::set) plan.lane->fixed.insert(key);
  auto left = removals_left_.find(key);
  if (act != Act::remove || left == removals_left_.end() || --left->second > 0) return;
  const Holding* holding = my_.book.find(key);
  bool gone = all_read_ && holding != nullptr && holding->state == KeyState::doomed && !my_.guard.off_limits(key);
  if (gone) my_.book.forget(key);
}

void Pass::note_refused(LanePlan& plan, const PublicKey& key, const std::string& detail) {
  refused_.insert(key);
  const bool before = is_parked(key);
  if (!plan.lane->refusals.note(key, my_.runtime.now())) return;
  if (!before) difference_.parked.push_back(key);
  if (my_.parked_told) my_.parked_told(plan.lane->lane(), key, detail);
  my_.runtime.log().write(LogLevel::error, "peer_parked",
                          {{"key", key.str()}, {"interface", plan.lane->interface()}, {"detail", detail}});
}

Task<void> Pass::drive(LanePlan& plan, Act act, std::vector<PublicKey>& keys) {
  for (std::size_t at = 0; at < keys.size(); at += LaneInterface::chunk) {
    std::vector<PublicKey> now;
    std::vector<Peer> peers;
    for (std::size_t i = at; i < std::min(at + LaneInterface::chunk, keys.size()); ++i) {
      auto peer = peer_for(plan, act, keys[i]);
      if (!peer) continue;
      now.push_back(keys[i]);
      peers.push_back(std::move(*peer));
    }
    if (now.empty()) continue;
    auto done = co_await plan.lane->put(std::move(peers));
    if (done) {
      for (const PublicKey& key : now) note_done(plan, act, key);
    } else if (done.error().code() == errc::backend_failed) {
      TRY_VOID(co_await drive_singly(plan, act, now));
    } else {
      co_return done;
    }
  }
  co_return Result<void>();
}

/// After a refused chunk: finds out who is to blame. Only refusals count; an interface that is away is nobody's fault.
Task<void> Pass::drive_singly(LanePlan& plan, Act act, std::vector<PublicKey>& keys) {
  for (const PublicKey& key : keys) {
    auto peer = peer_for(plan, act, key);
    if (!peer) continue;
    std::vector<Peer> one{std::move(*peer)};
    auto done = co_await plan.lane->put(std::move(one));
    if (done) {
      note_done(plan, act, key);
    } else if (done.error().code() == errc::backend_failed) {
      if (act == Act::set) note_refused(plan, key, done.error().detail());
      if (act != Act::set) plan.removals = done;
      plan.good = false;
    } else {
      co_return done;
    }
  }
  co_return Result<void>();
}

bool Pass::is_parked(const PublicKey& key) const {
  return std::any_of(plans_.begin(), plans_.end(),
                     [&](const LanePlan& plan) { return plan.lane->refusals.parked(key); });
}

/// Takes from the plan what is not to be tried yet; what is to go is never held up.
boost::asio::awaitable<void> Pass::hold_refused(LanePlan& plan) {
  Refusals& refusals = plan.lane->refusals;
  if (refusals.empty()) co_return;
  refusals.keep_if([&](const PublicKey& key) { return peer_for(plan, Act::set, key) || my_.guard.off_limits(key); });
  if (pace_.due()) co_await pace_.yield();
  std::erase_if(plan.set, [&](const PublicKey& key) {
    const bool waits = refusals.waits(key, began_);
    if (waits) refused_.insert(key);
    if (waits && !refusals.parked(key)) plan.good = false;
    return waits;
  });
  if (pace_.due()) co_await pace_.yield();
}

/// Set with success by the last comparison, and swallowed, while others are there (I-28).
boost::asio::awaitable<void> Pass::note_swallowed(LanePlan& plan) {
  auto& fixed = plan.lane->fixed;
  for (const PublicKey& key : plan.set) {
    if (fixed.empty() || plan.right == 0) break;
    if (pace_.due()) co_await pace_.yield();
    if (fixed.contains(key) && plan.snapshot->find(key) == nullptr)
      note_refused(plan, key, "accepted, but not there afterwards");
  }
  while (!fixed.empty()) {
    fixed.erase(fixed.begin());
    if (pace_.due()) co_await pace_.yield();
  }
}

/// Carries out the plan of a lane, what is wanted first: addresses move before their former holders go.
Task<void> Pass::apply(LanePlan& plan) {
  auto task = note_swallowed(plan);
  co_await std::move(task);
  task = hold_refused(plan);
  co_await std::move(task);
  plan.outcome = co_await drive(plan, Act::set, plan.set);
  if (plan.outcome) plan.outcome = co_await drive(plan, Act::strip, plan.strip);
  if (plan.outcome) plan.outcome = co_await drive(plan, Act::remove, plan.remove);
  if (plan.outcome) plan.outcome = plan.removals;
  if (plan.outcome && plan.good) plan.lane->clear_doubt(plan.doubt);
  if (!plan.outcome) my_.log_lane(LogLevel::warning, "reconcile_failed", *plan.lane, plan.outcome.error());
  co_return Result<void>();
}

/// The lanes at the same time: their interfaces have nothing to do with each other.
Task<void> Pass::apply() {
  if (all_read_ || held_ > 0) my_.removals_held = held_;
  auto held = [this](const AbsentPeer& peer) {
    const LanePtr on = my_.lane(peer.lane);
    return on != nullptr && on->refusals.waits(peer.key, began_);
  };
  for (std::size_t at = 0; at < absent_.size(); at += told_at_once) {
    std::vector<AbsentPeer> absent;
    // Who was touched meanwhile is judged by the next pass. Nothing may come between this and the telling: of a peer
    // that was made anew since, the counters would be taken for those of before.
    for (std::size_t i = at; i < std::min(at + told_at_once, absent_.size()); ++i)
      if (!held(absent_[i]) && !my_.guard.off_limits(absent_[i].key)) absent.push_back(std::move(absent_[i]));
    (void)co_await my_.tell_absent(std::move(absent));
    if (pace_.due()) co_await pace_.yield();
  }
  TaskGroup lanes(my_.runtime);
  for (LanePlan& plan : plans_)
    if (plan.snapshot) lanes.add("reconcile_lane", apply(plan));
  co_await lanes.settled(1);
  if (lanes.size() > 0) {
    co_await lanes.stop_all();
    co_return Error(errc::cancelled);
  }
  for (const LanePlan& plan : plans_)
    if (!plan.outcome) co_return plan.outcome.error();
  co_return Result<void>();
}

boost::asio::awaitable<void> Pass::end() {
  for (LanePlan& plan : plans_) {
    auto task = give_up(my_.runtime, std::move(plan.snapshot));
    co_await std::move(task);
  }
}

}  // namespace

Task<Difference> PeerProgrammer::difference() {
  Pass pass(*impl_);
  TRY_VOID(co_await pass.compare());
  auto task = pass.end();
  co_await std::move(task);
  co_return pass.take();
}

Task<Difference> PeerProgrammer::reconcile() {
  while (impl_->pass_running) {
    bool more = co_await impl_->pass_ended.wait(impl_->pass_ended.revision());
    if (!more) co_return Error(errc::cancelled);
  }
  impl_->pass_running = true;
  Difference out;
  Result<void> compared, applied;
  {
    Pass pass(*impl_);
    compared = co_await pass.compare();
    const bool cancelled = !compared && compared.error().code() == errc::cancelled;
    if (!cancelled) applied = co_await pass.apply();
    out = pass.take();
    auto task = pass.end();
    co_await std::move(task);
  }
  impl_->pass_running = false;
  impl_->pass_ended.notify();
  if (!applied) co_return applied.error();
  if (!compared) co_return compared.error();
  co_return out;
}

}  // namespace tornado::inline v1
