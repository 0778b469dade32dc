#pragma once

#include <boost/intrusive/set.hpp>

#include "base/hashed.hpp"
#include "base/slab.hpp"
#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// A session, the moments it is filed under (the default Instant: under none), and its places in the indexes.
class FiledSession : public Session {
 public:
  explicit FiledSession(Session session) : Session(std::move(session)) {}
  Instant closes_at, fades_at;
  bool unsaved = false;  ///< changed since the last checkpoint
  /// The earlier one.
  Instant next() const noexcept {
    if (closes_at == Instant()) return fades_at;
    return fades_at == Instant() ? closes_at : std::min(closes_at, fades_at);
  }

 private:
  friend class SessionIndex;
  using Ordered = boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>>;
  Ordered by_instance_, by_user_, by_moment_;
  HashedLink by_key_, live_;
};

/// The unclosed sessions of a gateway by everything they are looked up by. One record for each, which has its places in
/// all of them, so instance, user, device and key of a kept session never change, nor do its moments other than by
/// `file`. It belongs to the loop: asked from the body of a transaction, a build with assertions ends.
class SessionIndex {
 private:
  template <auto Member, class Key>
  struct ByMember {
    using type = Key;
    const Key& operator()(const FiledSession& session) const { return session.*Member; }
  };
  struct ByUser {
    bool operator()(const FiledSession& a, const FiledSession& b) const {
      return a.user != b.user ? a.user < b.user : a.instance < b.instance;
    }
    bool operator()(const FiledSession& a, const UserId& user) const { return a.user < user; }
  };
  struct ByMoment {
    bool operator()(const FiledSession& a, const FiledSession& b) const {
      const Instant first = a.next(), second = b.next();
      return first != second ? first < second : a.instance < b.instance;
    }
  };
  template <FiledSession::Ordered FiledSession::*Hook, class... Options>
  using OrderedBy =
      boost::intrusive::set<FiledSession, boost::intrusive::member_hook<FiledSession, FiledSession::Ordered, Hook>,
                            Options...>;
  template <HashedLink FiledSession::*Link, auto Member, class Key>
  using HashedBy = Hashed<FiledSession, Link, ByMember<Member, Key>>;

 public:
  using ByInstance = OrderedBy<&FiledSession::by_instance_,
                               boost::intrusive::key_of_value<ByMember<&FiledSession::instance, Instance>>>;

  SessionIndex() = default;
  SessionIndex(const SessionIndex&) = delete;
  SessionIndex& operator=(const SessionIndex&) = delete;
  ~SessionIndex();

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
  /// The first moment of all; the default Instant: none.
  Instant next() const noexcept;
  /// Those to be closed or judged by then, in order of time, those of one moment in order of instance.
  std::vector<const FiledSession*> closing_until(Instant moment) const;
  std::vector<FiledSession*> fading_until(Instant moment);

  ByInstance& all() noexcept;
  const ByInstance& all() const noexcept;
  /// In order of instance.
  std::vector<const FiledSession*> of_user(const UserId& user) const;

 private:
  Slab<FiledSession> slab_;
  ByInstance sessions_;
  HashedBy<&FiledSession::live_, &FiledSession::device, DeviceId> live_sessions_;
  HashedBy<&FiledSession::by_key_, &FiledSession::key, PublicKey> keys_;
  OrderedBy<&FiledSession::by_user_, boost::intrusive::compare<ByUser>> users_;
  OrderedBy<&FiledSession::by_moment_, boost::intrusive::compare<ByMoment>> moments_;
};

}  // namespace tornado::inline v1
