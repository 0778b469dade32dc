#include "tornado/session_store.hpp"

#include <set>
#include <stdexcept>
#include <unordered_set>

#include "base/notifier.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "session/journal.hpp"
#include "session/session_index.hpp"
#include "session/session_machine.hpp"
#include "session/traffic.hpp"
#include "tornado/database.hpp"

namespace tornado::inline v1 {

std::string_view name(SessionState state) noexcept {
  constexpr std::array<std::string_view, 4> names{"pending", "active", "closing", "closed"};
  return names[static_cast<std::size_t>(state)];
}

std::string_view name(Presence presence) noexcept {
  constexpr std::array<std::string_view, 3> names{"online", "idle", "offline"};
  return names[static_cast<std::size_t>(presence)];
}

std::string_view name(PresenceReason reason) noexcept {
  constexpr std::array<std::string_view, 8> names{"connected", "heartbeat", "traffic",  "handshake",
                                                  "quiet",     "silent",    "restored", "ended"};
  return names[static_cast<std::size_t>(reason)];
}

std::string_view name(CloseReason reason) noexcept {
  constexpr std::array<std::string_view, 8> names{"disconnect", "revoked",  "killed", "expired",
                                                  "idle",       "replaced", "failed", "retired"};
  return names[static_cast<std::size_t>(reason)];
}

ShownAddress shown_address(const std::optional<Address>& address, AddressPrivacy privacy) {
  if (!address || privacy == AddressPrivacy::none) return {};
  if (privacy == AddressPrivacy::full) return ShownAddress(address->str());
  const int length = address->is_v4() ? 24 : 48;
  std::array<std::uint8_t, 16> bytes{};
  std::string_view raw = address->bytes();
  for (std::size_t i = 0; i < static_cast<std::size_t>(length) / 8; ++i) bytes[i] = static_cast<std::uint8_t>(raw[i]);
  Address base = address->is_v4() ? Address::from_v4(address->v4() & 0xffffff00U) : Address::from_v6(bytes);
  return ShownAddress(Prefix(base, length).str());
}

namespace {

/// Sessions of one transaction: others wait for it, and the loop copies them in one piece.
constexpr std::size_t saved_at_once = 500;

void validate(const SessionOptions& o) {
  bool fine = o.heartbeat_ttl >= Seconds(10) && o.heartbeat_ttl <= Seconds(3600) && o.hard_ttl >= Seconds(60) &&
              o.idle_ttl >= o.heartbeat_ttl && o.grace >= Seconds(0) && o.handshake_margin >= Seconds(180) &&
              o.quiet_after >= Seconds(10);
  if (!fine)
    throw std::invalid_argument(
        "sessions: heartbeat_ttl 10..3600, hard_ttl >= 60, idle_ttl >= heartbeat_ttl, handshake_margin >= 180, "
        "quiet_after >= 10");
}

}  // namespace

struct SessionStore::Impl {
  Impl(Runtime& runtime_, std::unique_ptr<Database> own_, Database* shared, SessionOptions options_)
      : runtime(runtime_),
        own(std::move(own_)),
        journal(own ? *own : *shared),
        options(std::move(options_)),
        machine(options),
        saved(runtime) {}

  Task<void> save_unsaved();

  FiledSession* at(const Instance& instance) { return index.at(instance); }
  FiledSession* live_of(const DeviceId& device) { return index.live_of(device); }
  void touch(Session& session) { session.revision = ++revision; }
  void note_unsaved(FiledSession& session) {
    if (!session.unsaved) unsaved.push_back(session.instance);
    session.unsaved = true;
  }

  /// Deadlines follow the state of the session.
  void schedule(FiledSession& session) {
    if (!session.live()) return index.file(session, Instant(), Instant());
    Instant fades;
    if (session.state == SessionState::active && session.presence != Presence::offline) {
      auto verdict = machine.judge(session, runtime.now());
      fades = verdict.presence > session.presence ? graces_end : verdict.until;
    }
    index.file(session, machine.closes_at(session, graces_end).first, fades);
  }

  FiledSession& keep(Session session) {
    touch(session);
    if (session.live()) ++count_of(session.presence);
    if (session.state == SessionState::closing) ended.insert(session.instance);
    FiledSession& kept = index.keep(std::move(session));
    schedule(kept);
    return kept;
  }

  void drop(const Instance& instance) {
    FiledSession* session = at(instance);
    if (session == nullptr) return;
    if (session->live()) --count_of(session->presence);
    ended.erase(instance);
    index.drop(*session);
    ++revision;
  }

  std::size_t& count_of(Presence presence) { return counts[static_cast<std::size_t>(presence)]; }

  void set_presence(FiledSession& session, Presence presence, PresenceReason reason) {
    if (session.presence == presence) {
      session.presence_reason = reason;
      return;
    }
    const Presence before = session.presence;
    --count_of(before);
    ++count_of(presence);
    session.presence = presence;
    session.presence_reason = reason;
    session.presence_since = runtime.now();
    touch(session);
    if (presence_told && reason != PresenceReason::ended) presence_told(session, before);
  }

  /// Presence from the signs of life there are. A grace holds back only what is worse than before. True: it has come
  /// back from offline.
  bool refresh(FiledSession& session) {
    if (session.state != SessionState::active) return false;
    const bool was_offline = session.presence == Presence::offline;
    auto verdict = machine.judge(session, runtime.now());
    const bool worse = verdict.presence > session.presence;
    if (!worse || runtime.now() >= graces_end) {
      // What brought it back is what came now, whatever came before it.
      bool revived = was_offline && session.last_beat != runtime.now() && session.last_traffic != runtime.now();
      set_presence(session, verdict.presence, revived ? PresenceReason::handshake : verdict.reason);
    }
    schedule(session);
    return was_offline && session.presence != Presence::offline;
  }

  LaneTraffic& traffic_on(const Lane& lane) {
    for (auto& known : traffic)
      if (known.lane == lane) return known;
    return traffic.emplace_back(lane);
  }

  void set_source(FiledSession& session, const Address& source) {
    if (session.source == source) return;
    std::optional<Address> before = session.source;
    session.source = source;
    session.seen_from = shown_address(source, options.address_privacy);
    if (session.first_seen_from.empty()) session.first_seen_from = session.seen_from;
    note_unsaved(session);
    if (!before) return;
    ++session.roamed;
    if (roaming_told && session.live()) roaming_told(session, *before);
  }

  void observe(FiledSession& session, const Observation& seen) {
    const Instant now = runtime.now();
    LaneCounters& account = account_on(session, seen.lane);
    const std::uint32_t interface = account.interface;
    TrafficDelta delta = fold(account, seen, now);
    bool counted = delta.received > 0 || delta.sent > 0 || account.interface != interface;
    if (counted) note_unsaved(session);
    if (counted) sum_up(session);
    LaneTraffic& all = traffic_on(seen.lane);
    all.received += delta.received;
    all.sent += delta.sent;
    all.handshakes += delta.shaken ? 1 : 0;
    const Instant handshake = std::min(seen.handshake, now);
    bool shaken = delta.shaken && handshake > session.last_handshake;
    if (shaken) session.last_handshake = handshake;
    if (delta.used) session.last_traffic = now;
    if (shaken || delta.used) account.active = now;
    // Both tunnels may be kept alive: a handshake alone takes the lane only from one that is dead.
    const LaneCounters* current = session.counters_on(session.lane);
    bool current_lives = current != nullptr && current->handshake + options.handshake_margin > now;
    if (delta.used || (shaken && !current_lives)) session.lane = seen.lane;
    // The endpoint that counts is that of the lane in use.
    if (seen.source && seen.handshake != Instant() && session.lane == seen.lane) set_source(session, *seen.source);
    if (shaken || delta.used)
      if (refresh(session)) ++session.recoveries;
    if (counted || shaken) touch(session);
  }

  /// The in-memory side of ending.
  void mark_closing(FiledSession& session, CloseReason reason) {
    if (!session.live()) return;
    set_presence(session, Presence::offline, PresenceReason::ended);
    --count_of(Presence::offline);
    session.state = SessionState::closing;
    session.reason = reason;
    session.ended = runtime.now();
    touch(session);
    index.forget_live(session);
    schedule(session);
    ended.insert(session.instance);
  }

  void keep_in_doubt(Session session) {
    session.state = SessionState::closing;
    session.reason = CloseReason::failed;
    session.ended = runtime.now();
    session.in_doubt = true;
    if (const Session* former = live_of(session.device)) {
      replaced_in_doubt.emplace(session.instance, former->instance);
      session.addresses = {};
    }
    keep(std::move(session));
  }

  Runtime& runtime;
  std::unique_ptr<Database> own;
  Journal journal;
  SessionOptions options;
  SessionMachine machine;
  SessionIndex index;
  std::set<Instance> ended;                                  ///< closing
  std::unordered_map<Instance, Instance> replaced_in_doubt;  ///< by those in doubt: the session they would replace
  Instant graces_end;
  std::vector<ClockStep> unwritten;  ///< steps that the journal has not followed yet
  std::uint64_t revision = 0;
  std::vector<Instance> unsaved;  ///< those marked so, and some that are gone
  bool saving = false;
  Notifier saved;
  std::vector<LaneTraffic> traffic;
  std::uint64_t restarts = 0;
  std::array<std::size_t, 3> counts{};  ///< live ones by presence
  std::function<void(const Session&, Presence)> presence_told;
  std::function<void(const Session&, const Address&)> roaming_told;
};

SessionStore::SessionStore(Runtime& runtime, SessionOptions options) {
  validate(options);
  auto own = open_sqlite(runtime, options.journal);
  impl_ = std::make_unique<Impl>(runtime, std::move(own), nullptr, std::move(options));
}

SessionStore::SessionStore(Runtime& runtime, Database& journal, SessionOptions options) {
  validate(options);
  impl_ = std::make_unique<Impl>(runtime, nullptr, &journal, std::move(options));
}

SessionStore::~SessionStore() = default;

Task<RestoredSessions> SessionStore::restore(Seconds freed_within) {
  TRY_VOID(co_await impl_->journal.create_tables());
  TRY(auto restored, co_await impl_->journal.load(impl_->runtime.now() - freed_within));
  impl_->graces_end = impl_->runtime.now() + impl_->options.grace;
  for (Session& session : restored.unclosed) {
    session.bytes_missed = true;
    // Presence is not known; a session that was up counts as online until its grace has passed.
    if (session.state == SessionState::active) {
      session.presence = Presence::online;
      session.presence_reason = PresenceReason::restored;
      session.presence_since = impl_->runtime.now();
    }
    Session& kept = impl_->keep(std::move(session));
    std::vector<LaneCounters> counters = std::exchange(kept.counters, {});
    session = kept;
    kept.counters = std::move(counters);
  }
  co_return restored;
}

namespace {

/// The transaction may have been committed all the same.
bool doubtful(const Error& error) {
  auto kind = class_of(error.code());
  return kind == error_class::unavailable || kind == error_class::deadline_exceeded || kind == error_class::internal;
}

}  // namespace

Task<Session> SessionStore::open(NewSession wanted) {
  Instant now = impl_->runtime.now();
  Session session;
  session.instance = Instance(uuid7(now));
  session.user = wanted.user;
  session.device = wanted.device;
  session.addresses = wanted.addresses;
  session.key = wanted.key;
  session.source = wanted.source;
  session.preshared = wanted.preshared;
  session.seen_from = session.first_seen_from = shown_address(wanted.source, impl_->options.address_privacy);
  session.opened = now;
  session.hard_deadline = now + impl_->options.hard_ttl;
  auto replaced_or = co_await impl_->journal.open(session, wanted.guard, now);
  if (!replaced_or) {
    if (doubtful(replaced_or.error())) impl_->keep_in_doubt(std::move(session));
    co_return replaced_or.error();
  }
  auto replaced = *replaced_or;
  if (replaced) {
    if (FiledSession* former = impl_->at(*replaced)) {
      impl_->mark_closing(*former, CloseReason::replaced);
      former->addresses = {};
    }
    // Connections of the former session are still tracked under these addresses.
    session.bytes_missed = true;
  }
  co_return impl_->keep(std::move(session));
}

Task<Session> SessionStore::activate(Instance instance) {
  FiledSession* session = impl_->at(instance);
  if (session == nullptr) co_return Error(errc::not_found, "no such session");
  if (session->state == SessionState::active) co_return *session;
  Session activated = *session;
  activated.activated = impl_->runtime.now();
  TRY_VOID(co_await impl_->journal.activate(activated));
  session = impl_->at(instance);
  if (session == nullptr || session->state != SessionState::pending)
    co_return Error(errc::superseded, "the session ended meanwhile");
  session->state = SessionState::active;
  session->activated = activated.activated;
  impl_->set_presence(*session, Presence::online, PresenceReason::connected);
  impl_->touch(*session);
  impl_->schedule(*session);
  co_return *session;
}

Task<Session> SessionStore::set_preshared(Instance instance, bool preshared) {
  const Session* session = impl_->at(instance);
  if (session == nullptr || !session->live()) co_return Error(errc::not_found, "no such live session");
  TRY_VOID(co_await impl_->journal.set_preshared(instance, preshared));
  FiledSession* kept = impl_->at(instance);
  if (kept == nullptr) co_return Error(errc::not_found, "the session ended meanwhile");
  kept->preshared = preshared;
  impl_->touch(*kept);
  co_return *kept;
}

Result<Beat> SessionStore::beat(const DeviceId& device, std::optional<Address> source) {
  FiledSession* session = impl_->live_of(device);
  if (session == nullptr) return Error(errc::session_expired, "the device has no live session");
  Beat beat;
  session->last_beat = impl_->runtime.now();
  // Once the tunnel lives, its endpoint tells where the client is; a proxy or another NAT may stand before the API.
  bool tunnel_lives = session->last_handshake + impl_->options.handshake_margin > impl_->runtime.now();
  if (source && !tunnel_lives) impl_->set_source(*session, *source);
  beat.recovered = impl_->refresh(*session);
  if (beat.recovered) ++session->recoveries;
  beat.session = *session;
  return beat;
}

Result<Presence> SessionStore::observe(const Instance& instance, const Observation& seen) {
  FiledSession* session = impl_->at(instance);
  if (session == nullptr) return Error(errc::not_found, "no such session");
  impl_->observe(*session, seen);
  return session->presence;
}

Result<Presence> SessionStore::observe(const PublicKey& key, const Observation& seen) {
  FiledSession* session = impl_->index.of_key(key);
  if (session == nullptr || !session->live()) return errc::not_found;
  impl_->observe(*session, seen);
  return session->presence;
}

bool SessionStore::unmoved(const PublicKey& key, const Observation& seen) {
  FiledSession* session = impl_->index.of_key(key);
  if (session == nullptr || !session->live()) return false;
  for (auto& account : session->counters) {
    if (account.lane != seen.lane) continue;
    const bool tells_source = seen.source && seen.handshake != Instant() && session->lane == seen.lane;
    return !(tells_source && session->source != seen.source) && read_again(account, seen, impl_->runtime.now());
  }
  return false;
}

Task<void> SessionStore::counters_restarted(std::vector<RestartedCounters> restarted) {
  if (!restarted.empty()) ++impl_->restarts;
  // In memory all at once, before anybody can see a counter that began anew.
  std::vector<Instance> changed;
  for (const auto& which : restarted) {
    FiledSession* session = impl_->at(which.instance);
    if (session == nullptr) continue;
    restart(account_on(*session, which.lane));
    session->bytes_missed = true;
    impl_->note_unsaved(*session);
    impl_->touch(*session);
    bool listed = !changed.empty() && changed.back() == session->instance;
    if (!listed && session->state != SessionState::pending) changed.push_back(session->instance);
  }
  std::vector<ClockStep> no_steps;
  for (std::size_t at = 0; at < changed.size(); at += saved_at_once) {
    std::vector<Session> batch;
    for (std::size_t i = at; i < std::min(at + saved_at_once, changed.size()); ++i)
      if (const Session* session = impl_->at(changed[i])) batch.push_back(*session);
    TRY_VOID(co_await impl_->journal.save(batch, no_steps, impl_->runtime.now()));
  }
  co_return Result<void>();
}

void SessionStore::on_presence(std::function<void(const Session&, Presence before)> told) {
  impl_->presence_told = std::move(told);
}

void SessionStore::on_roaming(std::function<void(const Session&, const Address& before)> told) {
  impl_->roaming_told = std::move(told);
}

Task<Session> SessionStore::end(Instance instance, CloseReason reason) {
  FiledSession* session = impl_->at(instance);
  if (session == nullptr) co_return Error(errc::not_found, "no such session");
  if (!session->live()) co_return *session;
  TRY_VOID(co_await impl_->journal.begin_close(instance, reason, impl_->runtime.now()));
  session = impl_->at(instance);
  if (session == nullptr) co_return Error(errc::not_found, "no such session");
  if (session->live()) impl_->mark_closing(*session, reason);
  co_return *session;
}

Task<Session> SessionStore::revert(Instance failed, Instance former) {
  TRY_VOID(co_await impl_->journal.revert(failed, former, impl_->runtime.now()));
  FiledSession* lost = impl_->at(failed);
  FiledSession* kept = impl_->at(former);
  if (lost == nullptr || kept == nullptr) co_return Error(errc::not_found, "no such session");
  LaneAddresses addresses = std::move(lost->addresses);
  lost->addresses = {};
  impl_->mark_closing(*lost, CloseReason::failed);
  kept->addresses = std::move(addresses);
  kept->state = kept->activated == Instant() ? SessionState::pending : SessionState::active;
  kept->reason.reset();
  kept->ended = Instant();
  impl_->index.set_live(*kept);
  impl_->ended.erase(kept->instance);
  // Nobody was told that it had gone.
  kept->presence = Presence::online;
  kept->presence_reason = PresenceReason::connected;
  ++impl_->count_of(kept->presence);
  (void)impl_->refresh(*kept);
  impl_->touch(*kept);
  impl_->schedule(*kept);
  co_return *kept;
}

Task<Session> SessionStore::record(Instance instance) {
  FiledSession* session = impl_->at(instance);
  if (session == nullptr) co_return Error(errc::not_found, "no such session");
  if (session->state != SessionState::closing) co_return Error(errc::failed_precondition, "the session is not closing");
  Session final_state = *session;
  auto replaced = impl_->replaced_in_doubt.find(instance);
  const Instance former = replaced == impl_->replaced_in_doubt.end() ? Instance() : replaced->second;
  TRY_VOID(co_await impl_->journal.finish_close(final_state, former, impl_->runtime.now()));
  impl_->replaced_in_doubt.erase(instance);
  impl_->drop(instance);
  final_state.state = SessionState::closed;
  final_state.revision = impl_->revision;
  co_return final_state;
}

/// Moments and the step that moved them belong together, in one transaction.
Task<void> SessionStore::Impl::save_unsaved() {
  const std::vector<ClockStep> steps = unwritten;
  std::vector<Instance> listed = std::exchange(unsaved, {});
  const std::size_t at_once = steps.empty() ? saved_at_once : listed.size();
  std::size_t at = 0;
  do {
    std::vector<Session> changed;
    for (const std::size_t end = std::min(at + at_once, listed.size()); at < end; ++at) {
      FiledSession* session = this->at(listed[at]);
      if (session != nullptr) session->unsaved = false;
      // A pending one has nothing to write, and may be activated meanwhile.
      if (session != nullptr && session->state != SessionState::pending) changed.push_back(*session);
    }
    if (changed.empty() && steps.empty()) continue;
    auto saved = co_await journal.save(changed, steps, runtime.now());
    if (!saved) {
      for (const auto& session : changed)
        if (FiledSession* kept = this->at(session.instance)) note_unsaved(*kept);
      for (; at < listed.size(); ++at)
        if (this->at(listed[at]) != nullptr) unsaved.push_back(listed[at]);
      co_return saved;
    }
  } while (at < listed.size());
  unwritten.erase(unwritten.begin(), unwritten.begin() + static_cast<std::ptrdiff_t>(steps.size()));
  co_return Result<void>();
}

/// One at a time: a step of the clock moves what is stored, and must do so once.
Task<void> SessionStore::checkpoint() {
  while (impl_->saving) {
    bool ended = co_await impl_->saved.wait(impl_->saved.revision());
    if (!ended) co_return Error(errc::cancelled);
  }
  impl_->saving = true;
  auto saved = co_await impl_->save_unsaved();
  impl_->saving = false;
  impl_->saved.notify();
  co_return saved;
}

std::vector<std::pair<Session, CloseReason>> SessionStore::due() const {
  std::vector<std::pair<Session, CloseReason>> out;
  for (const FiledSession* session : impl_->index.closing_until(impl_->runtime.now()))
    out.emplace_back(*session, impl_->machine.closes_at(*session, impl_->graces_end).second);
  return out;
}

bool SessionStore::is_due(const Instance& instance) const {
  const FiledSession* session = impl_->at(instance);
  return session != nullptr && session->closes_at != Instant() && session->closes_at <= impl_->runtime.now();
}

std::size_t SessionStore::overdue_count() const {
  const auto due = impl_->index.closing_until(impl_->runtime.now());
  return static_cast<std::size_t>(std::count_if(
      due.begin(), due.end(), [](const FiledSession* session) { return session->state == SessionState::active; }));
}

std::vector<Session> SessionStore::fade() {
  std::vector<Session> out;
  for (FiledSession* session : impl_->index.fading_until(impl_->runtime.now())) {
    const Presence before = session->presence;
    (void)impl_->refresh(*session);
    if (session->presence != before) out.push_back(*session);
  }
  return out;
}

std::optional<Instant> SessionStore::next_deadline() const {
  const Instant next = impl_->index.next();
  return next == Instant() ? std::nullopt : std::optional(next);
}

void SessionStore::restart_graces() {
  impl_->graces_end = impl_->runtime.now() + impl_->options.grace;
  for (FiledSession& session : impl_->index.all()) impl_->schedule(session);
}

void SessionStore::clock_stepped(const ClockStep& step) {
  impl_->unwritten.push_back(step);
  for (FiledSession& session : impl_->index.all()) {
    const bool new_one = step.is_after(session.opened);
    std::vector<Instant*> moments{&session.opened,        &session.activated,      &session.ended,
                                  &session.last_beat,     &session.last_handshake, &session.last_traffic,
                                  &session.presence_since};
    for (auto& account : session.counters) moments.insert(moments.end(), {&account.read, &account.active});
    for (Instant* at : moments)
      if (*at != Instant() && !step.is_after(*at)) *at += step.by;
    impl_->note_unsaved(session);
    if (!new_one) session.hard_deadline += step.by;
    impl_->touch(session);
  }
  restart_graces();
}

std::optional<Session> SessionStore::find(const DeviceId& device) const {
  const Session* session = impl_->live_of(device);
  return session != nullptr ? std::optional(*session) : std::nullopt;
}

std::optional<Session> SessionStore::find(const Instance& instance) const {
  const Session* session = impl_->at(instance);
  return session != nullptr ? std::optional(*session) : std::nullopt;
}

std::optional<Session> SessionStore::find(const PublicKey& key) const {
  const Session* session = impl_->index.of_key(key);
  return session != nullptr ? std::optional(*session) : std::nullopt;
}

std::optional<Instance> SessionStore::instance_of(const PublicKey& key) const {
  const Session* session = impl_->index.of_key(key);
  return session != nullptr && session->live() ? std::optional(session->instance) : std::nullopt;
}

std::uint64_t SessionStore::restarts() const noexcept {
  return impl_->restarts;
}

SessionPage SessionStore::list(std::string after, int limit) const {
  SessionPage page;
  page.revision = impl_->revision;
  for (auto it = impl_->index.all().upper_bound(Instance(std::move(after))); it != impl_->index.all().end(); ++it) {
    if (page.sessions.size() >= static_cast<std::size_t>(std::clamp(limit, 1, 10'000))) {
      page.next = page.sessions.back().instance.str();
      break;
    }
    page.sessions.push_back(*it);
  }
  return page;
}

void SessionStore::visit_of(const UserId& user, const std::function<void(const Session&)>& visitor) const {
  for (const Session* session : impl_->index.of_user(user)) visitor(*session);
}

std::optional<Instance> SessionStore::visit(const Instance& after, int limit,
                                            const std::function<void(const Session&)>& visitor) const {
  int shown = 0;
  for (auto it = impl_->index.all().upper_bound(after); it != impl_->index.all().end(); ++it) {
    if (shown == limit) return std::prev(it)->instance;
    visitor(*it);
    ++shown;
  }
  return std::nullopt;
}

std::vector<Session> SessionStore::of(const UserId& user) const {
  std::vector<Session> out;
  for (const Session* session : impl_->index.of_user(user)) out.push_back(*session);
  return out;
}

std::vector<Session> SessionStore::closing() const {
  std::vector<Session> out;
  for (const auto& instance : impl_->ended) out.push_back(*impl_->at(instance));
  return out;
}

std::vector<Instance> SessionStore::closing(const DeviceId& device) const {
  std::vector<Instance> out;
  for (const auto& instance : impl_->ended)
    if (impl_->at(instance)->device == device) out.push_back(instance);
  return out;
}

std::size_t SessionStore::size() const noexcept {
  return impl_->index.all().size();
}
std::size_t SessionStore::online() const noexcept {
  return impl_->count_of(Presence::online);
}
std::size_t SessionStore::offline() const noexcept {
  return impl_->count_of(Presence::offline);
}
std::size_t SessionStore::closing_count() const noexcept {
  return impl_->ended.size();
}
const std::vector<LaneTraffic>& SessionStore::traffic() const noexcept {
  return impl_->traffic;
}
std::size_t SessionStore::idle() const noexcept {
  return impl_->count_of(Presence::idle);
}

Task<std::vector<Session>> SessionStore::undrained(int limit) {
  return impl_->journal.undrained(limit);
}

Task<void> SessionStore::drained(std::vector<Instance> instances) {
  co_return co_await impl_->journal.drained(instances);
}

}  // namespace tornado::inline v1
