#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <utility>

#include "base/cancellation.hpp"
#include "base/notifier.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "firewall/nft_codec.hpp"
#include "net/netlink_socket.hpp"
#include "tornado/firewall.hpp"

namespace tornado::inline v1 {
namespace {

/// Follows the notifications of everybody's transactions. `foreign` says that somebody else touched our table, or
/// that something was missed, since it was last cleared.
struct Watch {
  Watch(Runtime& runtime, std::string table_) : table(std::move(table_)), generations(runtime), changes(runtime) {}

  void take(const nft::Event& event) {
    if (event.generation) {
      generation = *event.generation;
      generations.notify();
    } else if (!event.ours && event.table == table) {
      disturb();
    }
  }

  void disturb() {
    foreign = true;
    changes.notify();
    generations.notify();
  }

  std::string table;
  std::optional<std::uint32_t> generation;  ///< of the last transaction that was seen whole
  bool foreign = false;
  std::optional<Error> blind;  ///< there are no notifications
  Notifier generations;
  Notifier changes;
};

/// Lets operations through one at a time, in the order in which they came.
class Turns {
 public:
  explicit Turns(Runtime& runtime) : ended_(runtime) {}

  class Turn {
   public:
    Turn(Turns& turns, std::uint64_t number) : turns_(&turns), number_(number) {}
    Turn(Turn&& other) noexcept : turns_(std::exchange(other.turns_, nullptr)), number_(other.number_) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->leave(number_);
    }
    bool mine() const { return turns_->waiting_.front() == number_; }

   private:
    Turns* turns_;
    std::uint64_t number_;
  };

  /// Errors: cancelled.
  Task<Turn> take() {
    waiting_.push_back(++last_);
    Turn turn(*this, last_);
    while (!turn.mine()) {
      std::uint64_t seen = ended_.revision();
      bool woken = co_await ended_.wait(seen);
      if (!woken) co_return Error(errc::cancelled);
    }
    co_return std::move(turn);
  }

 private:
  void leave(std::uint64_t number) {
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), number));
    ended_.notify();
  }

  std::deque<std::uint64_t> waiting_;
  std::uint64_t last_ = 0;
  Notifier ended_;
};

/// Size of a transaction that is not left to the loop: above this the kernel takes milliseconds. An element takes it
/// about a microsecond, a rule many (`firewall_bench`).
constexpr std::size_t large = 1000;
constexpr std::size_t elements_per_rule = 5;
/// Notifications that take longer are not coming; and a socket that fails again and again keeps nobody busy.
constexpr Seconds longest_lag{5}, before_opening_anew{1};

std::size_t size_of(const std::vector<ElementSet>& sets) {
  std::size_t out = 0;
  for (const ElementSet& set : sets)
    out += set.interfaces.size() + set.endpoints.size() + set.devices.size() + set.grants.size();
  return out;
}

std::size_t size_of(const Ruleset& ruleset) {
  std::size_t out = size_of(ruleset.sets);
  for (const Chain& chain : ruleset.chains) out += elements_per_rule * chain.rules.size();
  return out;
}

class NftFirewall final : public Firewall {
 public:
  NftFirewall(Runtime& runtime, std::string table)
      : runtime_(runtime),
        table_(std::move(table)),
        requests_(runtime, NETLINK_NETFILTER),
        events_(listener(runtime)),
        watch_(runtime, table_),
        turns_(runtime),
        listening_(runtime.spawn(listen(runtime, events_, watch_, requests_.port()))) {}

  Task<void> apply(std::shared_ptr<const Ruleset> ruleset) override {
    if (!ruleset) co_return Error(errc::invalid_argument, "no ruleset");
    TRY(Turns::Turn turn, co_await turns_.take());
    auto build = [&]() -> Batch { return nft::replace_table(table_, *ruleset); };
    bool is_large = size_of(*ruleset) >= large;
    TRY(Batch batch, co_await built(build, is_large));
    // What others did before our transaction is gone with it. Should the notification of it be under way still, it is
    // taken for a later one, and the table is found not to be intact: one `apply` too many, never one too few.
    bool before = std::exchange(watch_.foreign, false);
    auto done = co_await transact(std::move(batch), "replace table", is_large);
    if (!done) {
      watch_.foreign = watch_.foreign || before;
      co_return done.error();
    }
    devices_ = devices_of(*ruleset);
    TRY(handle_, co_await handle());
    co_return co_await transact(nft::refill_access_rules(table_, *ruleset), "refuse TCP", false);
  }

  Task<void> mode(std::shared_ptr<const Ruleset> ruleset, Lane lane) override {
    if (!ruleset) co_return Error(errc::invalid_argument, "no ruleset");
    auto batch = nft::refill_lane(table_, *ruleset, lane);
    if (batch.empty()) co_return Error(errc::invalid_argument, "no lane '" + lane.str() + "'");
    TRY(Turns::Turn turn, co_await turns_.take());
    co_return co_await transact(std::move(batch), "refill lane", false);
  }

  Task<void> api(std::vector<Endpoint> endpoints) override {
    TRY(Turns::Turn turn, co_await turns_.take());
    auto build = [&]() -> Batch { return nft::refill_sets(table_, api_sets(std::move(endpoints))); };
    bool is_large = endpoints.size() >= large;
    TRY(Batch batch, co_await built(build, is_large));
    co_return co_await transact(std::move(batch), "refill sets", is_large);
  }

  Task<void> access(std::shared_ptr<const Ruleset> ruleset) override {
    if (!ruleset) co_return Error(errc::invalid_argument, "no ruleset");
    TRY(Turns::Turn turn, co_await turns_.take());
    auto build = [&]() -> Batch { return nft::refill_access(table_, *ruleset); };
    bool is_large = size_of(ruleset->sets) >= large;
    TRY(Batch batch, co_await built(build, is_large));
    TRY_VOID(co_await transact(std::move(batch), "refill rights", is_large));
    devices_ = devices_of(*ruleset);
    co_return co_await transact(nft::refill_access_rules(table_, *ruleset), "refuse TCP", false);
  }

  /// An element cannot be changed: it goes and comes again in one transaction.
  Task<void> devices(std::vector<DeviceAccess> changed, std::vector<Address> gone) override {
    TRY(Turns::Turn turn, co_await turns_.take());
    DeviceChanges changes(devices_, std::move(changed), std::move(gone));
    if (changes.empty()) co_return Result<void>();
    auto build = [&]() -> Batch { return nft::change_devices(table_, changes.before, changes.after); };
    bool is_large = changes.before.size() + changes.after.size() >= large;
    TRY(Batch batch, co_await built(build, is_large));
    TRY_VOID(co_await transact(std::move(batch), "change devices", is_large));
    changes.apply(devices_);
    co_return Result<void>();
  }

  Task<void> remove() override {
    TRY(Turns::Turn turn, co_await turns_.take());
    handle_.reset();
    devices_.clear();
    co_return co_await transact(nft::remove_table(table_), "remove table", false);
  }

  Task<bool> intact() override {
    TRY(Turns::Turn turn, co_await turns_.take());
    if (!handle_) co_return false;
    TRY(std::uint32_t generation, co_await current_generation());
    TRY_VOID(co_await caught_up(generation));
    TRY(auto now, co_await handle());
    co_return !watch_.foreign && handle_.has_value() && now == handle_;
  }

  Task<std::uint64_t> changed(std::uint64_t since) override {
    bool woken = co_await watch_.changes.wait(since);
    if (!woken) co_return Error(errc::cancelled);
    co_return watch_.changes.revision();
  }

  Task<std::vector<ForeignChain>> foreign_drops() override {
    TRY(Turns::Turn turn, co_await turns_.take());
    TRY(std::uint32_t generation, co_await current_generation());
    if (foreign_at_ == generation) co_return foreign_;
    TRY(NetlinkReply reply, co_await requests_.exchange(nft::get_chains()));
    TRY_VOID(reply.check("nftables: list chains"));
    std::vector<ForeignChain> out;
    Pace pace(runtime_);
    for (const NetlinkMessage& message : reply.messages) {
      if (pace.due()) co_await pace.yield();
      TRY(auto chain, nft::decode_base_chain(message));
      if (!chain || (chain->name.family == "inet" && chain->name.table == table_)) continue;
      if (!chain->drops) {
        TRY(chain->name.by_rule, co_await ends_in_drop(chain->name));
      }
      if (chain->drops || chain->name.by_rule) out.push_back(std::move(chain->name));
    }
    std::sort(out.begin(), out.end());
    foreign_ = std::move(out);
    foreign_at_ = generation;
    co_return foreign_;
  }

 private:
  using Batch = std::vector<std::string>;

  template <class Build>
  Task<Batch> built(Build& build, bool off_loop) {
    auto work = [&]() -> Result<Batch> { return build(); };
    if (off_loop) {
      auto batch = co_await runtime_.offload(Blocking::file, work);
      if (batch || batch.error().code() != errc::overloaded) co_return batch;
    }
    co_return work();
  }

  Task<void> transact(Batch batch, std::string what, bool off_loop) {
    if (off_loop) {
      TRY(NetlinkReply reply, co_await requests_.transact_off_loop(std::move(batch)));
      co_return reply.check("nftables: " + what);
    }
    TRY(NetlinkReply reply, co_await requests_.transact(std::move(batch)));
    co_return reply.check("nftables: " + what);
  }

  /// A chain that has gone meanwhile drops nothing.
  Task<bool> ends_in_drop(const ForeignChain& chain) {
    TRY(NetlinkReply reply, co_await requests_.exchange(nft::get_rules(chain), Keep::last));
    TRY_VOID(reply.check("nftables: list rules", {ENOENT}));
    if (reply.messages.empty()) co_return false;
    TRY(auto drops, nft::decode_drops_all(reply.messages.back()));
    co_return drops.value_or(false);
  }

  /// Nothing: there is no such table.
  Task<std::optional<std::uint64_t>> handle() {
    TRY(NetlinkReply reply, co_await requests_.exchange(nft::get_table(table_)));
    if (reply.ack.error == ENOENT) co_return std::optional<std::uint64_t>();
    TRY_VOID(reply.check("nftables: get table"));
    for (const NetlinkMessage& message : reply.messages) {
      TRY(auto found, nft::decode_table(message, table_));
      if (found) co_return found;
    }
    co_return Error(errc::protocol_error, "nftables: no answer about table " + table_);
  }

  Task<std::uint32_t> current_generation() {
    TRY(NetlinkReply reply, co_await requests_.exchange(nft::get_generation()));
    TRY_VOID(reply.check("nftables: get generation"));
    for (const NetlinkMessage& message : reply.messages) {
      TRY(auto found, nft::decode_generation(message));
      if (found) co_return *found;
    }
    co_return Error(errc::protocol_error, "nftables: no generation");
  }

  /// Waits until the notifications of that generation have been read; the kernel sends them before it answers the
  /// one whose transaction it was, so this does not take long. We have made a transaction before, so one was seen.
  /// A socket that does not tell of it is deaf, and is opened anew.
  Task<void> caught_up(std::uint32_t generation) {
    const Instant limit = runtime_.now() + longest_lag;
    while (!watch_.foreign && (!watch_.generation || static_cast<std::int32_t>(*watch_.generation - generation) < 0)) {
      if (watch_.blind) co_return *watch_.blind;
      if (runtime_.now() >= limit) {
        watch_.blind = Error(errc::deadline_exceeded, "nftables: the notifications do not come");
        events_.reset();
        co_return *watch_.blind;
      }
      auto told = watch_.generations.wait(watch_.generations.revision());
      auto slept = runtime_.sleep_until(limit);
      (void)co_await first_of(std::move(told), std::move(slept));
      bool cancelled = co_await is_cancelled();
      if (cancelled) co_return Error(errc::cancelled);
    }
    co_return Result<void>();
  }

  static std::unique_ptr<NetlinkSocket> listener(Runtime& runtime) {
    return std::make_unique<NetlinkSocket>(runtime, NETLINK_NETFILTER, std::vector<int>{NFNLGRP_NFTABLES});
  }

  /// Opens the socket anew. What was told meanwhile is lost: the table counts as changed.
  static Task<void> open_anew(Runtime& runtime, std::unique_ptr<NetlinkSocket>& events, Watch& watch, Error why) {
    if (!watch.blind) watch.blind = std::move(why);
    watch.disturb();
    bool slept = co_await runtime.sleep_until(runtime.now() + before_opening_anew);
    if (!slept) co_return Error(errc::cancelled);
    events = listener(runtime);
    watch.blind.reset();
    watch.disturb();
    co_return Result<void>();
  }

  /// A large transaction is told element by element.
  static Task<void> listen(Runtime& runtime, std::unique_ptr<NetlinkSocket>& events, Watch& watch, std::uint32_t port) {
    Pace pace(runtime);
    for (;;) {
      if (pace.due()) co_await pace.yield();
      auto messages = co_await events->receive();
      if (!messages) {
        bool cancelled = co_await is_cancelled();
        if (cancelled) co_return Error(errc::cancelled);
        errc code = messages.error().code();
        bool over = code != errc::data_loss && code != errc::protocol_error;
        if (!over) watch.disturb();
        if (over) TRY_VOID(co_await open_anew(runtime, events, watch, messages.error()));
        continue;
      }
      for (const NetlinkMessage& message : *messages) {
        auto event = nft::decode_event(message, port);
        if (!event) watch.disturb();
        if (event && *event) watch.take(**event);
      }
    }
  }

  Runtime& runtime_;
  std::string table_;
  NetlinkSocket requests_;
  std::unique_ptr<NetlinkSocket> events_;  ///< null: about to be opened anew
  Watch watch_;
  Turns turns_;
  std::optional<std::uint64_t> handle_;
  std::unordered_map<Address, DeviceAccess> devices_;  ///< as the table has them
  std::vector<ForeignChain> foreign_;
  std::optional<std::uint32_t> foreign_at_;  ///< generation `foreign_` was read at
  Background listening_;
};

}  // namespace

std::unique_ptr<Firewall> nft_firewall(Runtime& runtime, std::string table) {
  return std::make_unique<NftFirewall>(runtime, std::move(table));
}

}  // namespace tornado::inline v1
