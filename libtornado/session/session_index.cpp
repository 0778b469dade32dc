#include "session/session_index.hpp"

#include <cassert>

#include "base/blocking_pool.hpp"

namespace tornado::inline v1 {
namespace {

void expect_loop() noexcept {
  assert(!BlockingPool::runs_here());
}

}  // namespace

bool SessionIndex::ByUser::operator()(const FiledSession* a, const FiledSession* b) const {
  return a->user != b->user ? a->user < b->user : a->instance < b->instance;
}

FiledSession& SessionIndex::keep(Session session) {
  if (FiledSession* former = at(session.instance)) drop(*former);
  Instance instance = session.instance;
  FiledSession& kept = sessions_.emplace(std::move(instance), FiledSession(std::move(session))).first->second;
  if (auto same = keys_.find(kept.key); same != keys_.end()) keys_.erase(same);
  keys_.insert(&kept);
  users_.insert(&kept);
  if (kept.live()) set_live(kept);
  return kept;
}

void SessionIndex::drop(FiledSession& session) {
  file(session, Instant(), Instant());
  forget_live(session);
  if (of_key(session.key) == &session) keys_.erase(&session);
  users_.erase(&session);
  Instance instance = session.instance;
  sessions_.erase(instance);
}

FiledSession* SessionIndex::at(const Instance& instance) {
  expect_loop();
  auto it = sessions_.find(instance);
  return it == sessions_.end() ? nullptr : &it->second;
}

const FiledSession* SessionIndex::at(const Instance& instance) const {
  expect_loop();
  auto it = sessions_.find(instance);
  return it == sessions_.end() ? nullptr : &it->second;
}

FiledSession* SessionIndex::of_key(const PublicKey& key) const {
  expect_loop();
  auto it = keys_.find(key);
  return it == keys_.end() ? nullptr : *it;
}

FiledSession* SessionIndex::live_of(const DeviceId& device) const {
  expect_loop();
  auto it = live_.find(device);
  return it == live_.end() ? nullptr : *it;
}

void SessionIndex::set_live(FiledSession& session) {
  if (auto former = live_.find(session.device); former != live_.end()) live_.erase(former);
  live_.insert(&session);
}

void SessionIndex::forget_live(FiledSession& session) {
  if (live_of(session.device) == &session) live_.erase(&session);
}

void SessionIndex::file(FiledSession& session, Instant closes_at, Instant fades_at) {
  if (session.closes_at != closes_at) {
    if (session.closes_at != Instant()) closes_.erase(&session);
    session.closes_at = closes_at;
    if (closes_at != Instant()) closes_.insert(&session);
  }
  if (session.fades_at == fades_at) return;
  if (session.fades_at != Instant()) fades_.erase(&session);
  session.fades_at = fades_at;
  if (fades_at != Instant()) fades_.insert(&session);
}

FiledSession* SessionIndex::first_to_close() const {
  return closes_.empty() ? nullptr : *closes_.begin();
}

FiledSession* SessionIndex::first_to_fade() const {
  return fades_.empty() ? nullptr : *fades_.begin();
}

std::vector<const FiledSession*> SessionIndex::closing_until(Instant moment) const {
  return {closes_.begin(), closes_.upper_bound(moment)};
}

std::size_t SessionIndex::count_closing_until(Instant moment) const {
  return static_cast<std::size_t>(std::distance(closes_.begin(), closes_.upper_bound(moment)));
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
  for (auto it = users_.lower_bound(user); it != users_.end() && (*it)->user == user; ++it) out.push_back(*it);
  return out;
}

}  // namespace tornado::inline v1
