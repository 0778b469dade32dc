#include <deque>

#include "base/encoding.hpp"
#include "base/uuid.hpp"
#include "tornado/live_store.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_keys = 1'000'000;
constexpr std::size_t most_commands = 10'000;

struct Counter {
  std::deque<Instant> failures;
  Instant banned_until;
  Seconds window{300};
};

struct Kept {
  std::string value;
  Instant until;
};

struct Inbox {
  std::deque<Command> commands;
  std::uint64_t next = 1;
};

class MemoryLiveStore final : public LiveStore {
 public:
  explicit MemoryLiveStore(Runtime& runtime) : runtime_(runtime), generation_(uuid4()) {}

  Task<std::string> generation() override { co_return generation_; }

  Task<void> put(SessionRecord record) override {
    auto it = sessions_.find(record.session_id);
    if (it != sessions_.end() && it->second.instance > record.instance)
      co_return Error(errc::conflict, "a newer instance is published");
    std::string id = record.session_id;
    sessions_.insert_or_assign(std::move(id), std::move(record));
    co_return Result<void>();
  }

  Task<void> erase(std::string session_id, Instance instance) override {
    auto it = sessions_.find(session_id);
    if (it != sessions_.end() && it->second.instance == instance) sessions_.erase(it);
    co_return Result<void>();
  }

  Task<std::vector<SessionRecord>> list(std::string after, int limit) override {
    if (limit < 1 || limit > 10'000) co_return Error(errc::invalid_argument, "limit is 1 to 10,000");
    Instant now = runtime_.now();
    std::vector<SessionRecord> page;
    for (auto it = sessions_.upper_bound(after);
         it != sessions_.end() && page.size() < static_cast<std::size_t>(limit);) {
      if (it->second.deadline <= now) {
        it = sessions_.erase(it);
      } else {
        page.push_back(it->second);
        ++it;
      }
    }
    co_return page;
  }

  Task<Verdict> hit(std::string key, ThrottleRule rule) override {
    Instant now = runtime_.now();
    make_room();
    Counter& counter = counters_[key];
    counter.window = rule.window;
    expire(counter, now);
    counter.failures.push_back(now);
    if (counter.failures.size() > static_cast<std::size_t>(rule.limit)) counter.failures.pop_front();
    if (counter.failures.size() >= static_cast<std::size_t>(rule.limit) && counter.banned_until <= now)
      counter.banned_until = now + rule.ban;
    co_return verdict(counter, now);
  }

  Task<Verdict> peek(std::string key) override {
    auto it = counters_.find(key);
    if (it == counters_.end()) co_return Verdict();
    expire(it->second, runtime_.now());
    co_return verdict(it->second, runtime_.now());
  }

  Task<void> clear(std::string key) override {
    counters_.erase(key);
    co_return Result<void>();
  }

  Task<std::vector<ThrottleState>> throttled() override {
    Instant now = runtime_.now();
    std::vector<ThrottleState> all;
    for (auto& [key, counter] : counters_) {
      expire(counter, now);
      if (counter.failures.empty() && counter.banned_until <= now) continue;
      ThrottleState& state = all.emplace_back();
      state.key = key;
      state.failures = static_cast<int>(counter.failures.size());
      state.banned_until = counter.banned_until > now ? counter.banned_until : Instant();
    }
    co_return all;
  }

  Task<bool> claim(std::string key, Seconds ttl) override {
    sweep();
    if (claims_.size() >= most_keys) co_return Error(errc::store_unavailable, "too many claims are kept");
    Instant now = runtime_.now();
    auto [it, fresh] = claims_.try_emplace(std::move(key), now + ttl);
    if (!fresh && it->second > now) co_return false;
    it->second = now + ttl;
    co_return true;
  }

  Task<void> keep(std::string key, std::string value, Seconds ttl) override {
    sweep();
    if (kept_.size() >= most_keys) co_return Error(errc::store_unavailable, "too many values are kept");
    Kept& kept = kept_[std::move(key)];
    kept.value = std::move(value);
    kept.until = runtime_.now() + ttl;
    co_return Result<void>();
  }

  Task<std::string> take(std::string key) override {
    auto it = kept_.find(key);
    if (it == kept_.end()) co_return Error(errc::not_found, "no such value");
    Kept kept = std::move(it->second);
    kept_.erase(it);
    if (kept.until <= runtime_.now()) co_return Error(errc::not_found, "the value has expired");
    co_return std::move(kept.value);
  }

  Task<void> publish(std::string, std::string) override { co_return Result<void>(); }

  Task<void> send(std::string gateway, std::string json) override {
    Inbox& inbox = inboxes_[gateway];
    if (inbox.commands.size() >= most_commands) co_return Error(errc::overloaded, "the inbox is full");
    Command& command = inbox.commands.emplace_back();
    std::string number = std::to_string(inbox.next++);
    command.id = std::string(20 - number.size(), '0') + number;
    command.json = std::move(json);
    co_return Result<void>();
  }

  Task<std::vector<Command>> receive(std::string gateway, std::string acknowledged) override {
    auto& commands = inboxes_[gateway].commands;
    while (!commands.empty() && commands.front().id <= acknowledged) commands.pop_front();
    auto count = static_cast<std::ptrdiff_t>(std::min<std::size_t>(commands.size(), 100));
    co_return std::vector<Command>(commands.begin(), commands.begin() + count);
  }

 private:
  static void expire(Counter& counter, Instant now) {
    while (!counter.failures.empty() && counter.failures.front() + counter.window <= now) counter.failures.pop_front();
  }

  static Verdict verdict(const Counter& counter, Instant now) {
    Verdict out;
    out.failures = static_cast<int>(counter.failures.size());
    out.allowed = counter.banned_until <= now;
    if (!out.allowed) out.retry_after = std::chrono::ceil<Seconds>(counter.banned_until - now);
    return out;
  }

  /// Counters whose window has passed say nothing; if there still are too many, the oldest goes.
  void make_room() {
    if (counters_.size() < most_keys) return;
    Instant now = runtime_.now();
    for (auto it = counters_.begin(); it != counters_.end();) {
      expire(it->second, now);
      it = it->second.failures.empty() && it->second.banned_until <= now ? counters_.erase(it) : std::next(it);
    }
    if (counters_.size() >= most_keys) counters_.erase(counters_.begin());
  }

  /// Drops what has expired, at most once a minute.
  void sweep() {
    Instant now = runtime_.now();
    if (now < next_sweep_) return;
    next_sweep_ = now + Seconds(60);
    std::erase_if(claims_, [&](const auto& entry) { return entry.second <= now; });
    std::erase_if(kept_, [&](const auto& entry) { return entry.second.until <= now; });
  }

  Runtime& runtime_;
  std::string generation_;
  std::map<std::string, SessionRecord> sessions_;
  std::unordered_map<std::string, Counter> counters_;
  std::unordered_map<std::string, Instant> claims_;
  std::unordered_map<std::string, Kept> kept_;
  std::unordered_map<std::string, Inbox> inboxes_;
  Instant next_sweep_;
};

}  // namespace

std::unique_ptr<LiveStore> memory_live_store(Runtime& runtime) {
  return std::make_unique<MemoryLiveStore>(runtime);
}

}  // namespace tornado::inline v1
