#pragma once

#include <map>
#include <set>
#include <unordered_set>

#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// A session and the moments it is filed under; the default Instant: under none.
class FiledSession : public Session {
 public:
  explicit FiledSession(Session session) : Session(std::move(session)) {}
  Instant closes_at, fades_at;
};

/// The unclosed sessions of a gateway by everything they are looked up by. One record for each; indexes point to it,
/// so instance, user, device and key of a kept session never change, nor do its moments other than by `file`. It
/// belongs to the loop: asked from the body of a transaction, a build with assertions ends.
class SessionIndex {
 public:
  SessionIndex() = default;
  SessionIndex(const SessionIndex&) = delete;
  SessionIndex& operator=(const SessionIndex&) = delete;

  using ByInstance = std::map<Instance, FiledSession>;

  /// Takes the place of what was kept of the same instance.
  FiledSession& keep(Session session);
  void drop(FiledSession& session);

  FiledSession* at(const Instance& instance);
  const FiledSession* at(const Instance& instance) const;
  /// The latest one with this key, live or not.
  FiledSession* of_key(const PublicKey& key) const;
  FiledSession* live_of(const DeviceId& device) const;
  /// A device has one live session: this one, from now on.
  void set_live(FiledSession& session);
  void forget_live(FiledSession& session);

  /// When it has to be closed, and when its presence has to be judged again; the default Instant: never.
  void file(FiledSession& session, Instant closes_at, Instant fades_at);
  /// The first one to be closed or judged; null: none.
  FiledSession* first_to_close() const;
  FiledSession* first_to_fade() const;
  /// In order of time, those of one moment in order of instance.
  std::vector<const FiledSession*> closing_until(Instant moment) const;
  std::size_t count_closing_until(Instant moment) const;

  ByInstance& all() noexcept;
  const ByInstance& all() const noexcept;
  /// In order of instance.
  std::vector<const FiledSession*> of_user(const UserId& user) const;

 private:
  struct ByUser {
    using is_transparent = void;
    bool operator()(const FiledSession* a, const FiledSession* b) const;
    bool operator()(const FiledSession* a, const UserId& user) const { return a->user < user; }
  };
  template <Instant FiledSession::*Moment>
  struct ByMoment {
    using is_transparent = void;
    bool operator()(const FiledSession* a, const FiledSession* b) const {
      return a->*Moment != b->*Moment ? a->*Moment < b->*Moment : a->instance < b->instance;
    }
    bool operator()(const Instant& moment, const FiledSession* a) const { return moment < a->*Moment; }
  };
  struct DeviceHash {
    using is_transparent = void;
    std::size_t operator()(const FiledSession* a) const noexcept { return a->device.hash(); }
    std::size_t operator()(const DeviceId& device) const noexcept { return device.hash(); }
  };
  struct SameDevice {
    using is_transparent = void;
    bool operator()(const FiledSession* a, const FiledSession* b) const { return a->device == b->device; }
    bool operator()(const DeviceId& device, const FiledSession* a) const { return a->device == device; }
    bool operator()(const FiledSession* a, const DeviceId& device) const { return a->device == device; }
  };
  struct KeyHash {
    using is_transparent = void;
    std::size_t operator()(const FiledSession* a) const noexcept { return std::hash<PublicKey>()(a->key); }
    std::size_t operator()(const PublicKey& key) const noexcept { return std::hash<PublicKey>()(key); }
  };
  struct SameKey {
    using is_transparent = void;
    bool operator()(const FiledSession* a, const FiledSession* b) const { return a->key == b->key; }
    bool operator()(const PublicKey& key, const FiledSession* a) const { return a->key == key; }
    bool operator()(const FiledSession* a, const PublicKey& key) const { return a->key == key; }
  };

  ByInstance sessions_;
  std::unordered_set<FiledSession*, DeviceHash, SameDevice> live_;
  std::unordered_set<FiledSession*, KeyHash, SameKey> keys_;
  std::set<FiledSession*, ByUser> users_;
  std::set<FiledSession*, ByMoment<&FiledSession::closes_at>> closes_;
  std::set<FiledSession*, ByMoment<&FiledSession::fades_at>> fades_;
};

}  // namespace tornado::inline v1
