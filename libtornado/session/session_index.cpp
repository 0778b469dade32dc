#include "session/session_index.hpp"

#include <algorithm>
#include <cassert>
#include <tuple>

#include "base/blocking_pool.hpp"

namespace tornado::inline v1 {
namespace {

void expect_loop() noexcept {
  assert(!BlockingPool::runs_here());
}

}  // namespace

SessionIndex::~SessionIndex() {
  moments_.clear();
  users_.clear();
  auto taken_out = [](FiledSession*) {};
  keys_.clear(taken_out);
  live_sessions_.clear(taken_out);
  sessions_.clear_and_dispose([this](FiledSession* session) { slab_.give_up(*session); });
}

FiledSession& SessionIndex::keep(Session session) {
  if (FiledSession* former = at(session.instance)) drop(*former);
  FiledSession& kept = slab_.make(std::move(session));
  sessions_.insert(kept);
  if (FiledSession* same = keys_.find(kept.key)) keys_.erase(*same);
  keys_.insert(kept);
  users_.insert(kept);
  if (kept.live()) set_live(kept);
  return kept;
}

void SessionIndex::drop(FiledSession& session) {
  file(session, Instant(), Instant());
  forget_live(session);
  if (keys_.has(session)) keys_.erase(session);
  users_.erase(users_.iterator_to(session));
  sessions_.erase(sessions_.iterator_to(session));
  slab_.give_up(session);
}

FiledSession* SessionIndex::at(const Instance& instance) {
  expect_loop();
  auto it = sessions_.find(instance);
  return it == sessions_.end() ? nullptr : &*it;
}

const FiledSession* SessionIndex::at(const Instance& instance) const {
  expect_loop();
  auto it = sessions_.find(instance);
  return it == sessions_.end() ? nullptr : &*it;
}

FiledSession* SessionIndex::of_key(const PublicKey& key) const {
  expect_loop();
  return keys_.find(key);
}

FiledSession* SessionIndex::live_of(const DeviceId& device) const {
  expect_loop();
  return live_sessions_.find(device);
}

void SessionIndex::set_live(FiledSession& session) {
  if (FiledSession* former = live_sessions_.find(session.device)) live_sessions_.erase(*former);
  live_sessions_.insert(session);
}

void SessionIndex::forget_live(FiledSession& session) {
  if (live_sessions_.has(session)) live_sessions_.erase(session);
}

void SessionIndex::file(FiledSession& session, Instant closes_at, Instant fades_at) {
  if (session.closes_at == closes_at && session.fades_at == fades_at) return;
  if (session.next() != Instant()) moments_.erase(moments_.iterator_to(session));
  session.closes_at = closes_at;
  session.fades_at = fades_at;
  if (session.next() != Instant()) moments_.insert(session);
}

Instant SessionIndex::next() const noexcept {
  return moments_.empty() ? Instant() : moments_.begin()->next();
}

std::vector<const FiledSession*> SessionIndex::closing_until(Instant moment) const {
  std::vector<const FiledSession*> out;
  for (auto it = moments_.begin(); it != moments_.end() && it->next() <= moment; ++it)
    if (it->closes_at != Instant() && it->closes_at <= moment) out.push_back(&*it);
  std::sort(out.begin(), out.end(), [](const FiledSession* a, const FiledSession* b) {
    return std::tie(a->closes_at, a->instance) < std::tie(b->closes_at, b->instance);
  });
  return out;
}

std::vector<FiledSession*> SessionIndex::fading_until(Instant moment) {
  std::vector<FiledSession*> out;
  for (auto it = moments_.begin(); it != moments_.end() && it->next() <= moment; ++it)
    if (it->fades_at != Instant() && it->fades_at <= moment) out.push_back(&*it);
  std::sort(out.begin(), out.end(), [](const FiledSession* a, const FiledSession* b) {
    return std::tie(a->fades_at, a->instance) < std::tie(b->fades_at, b->instance);
  });
  return out;
}

SessionIndex::ByInstance& SessionIndex::all() noexcept {
  expect_loop();
  return sessions_;
}

const SessionIndex::ByInstance& SessionIndex::all() const noexcept {
  expect_loop();
  return sessions_;
}

std::vector<const FiledSession*> SessionIndex::of_user(const UserId& user) const {
  expect_loop();
  std::vector<const FiledSession*> out;
  for (auto it = users_.lower_bound(user, ByUser()); it != users_.end() && it->user == user; ++it) out.push_back(&*it);
  return out;
}

}  // namespace tornado::inline v1
