#pragma once

#include <gtest/gtest.h>

#include "tornado/live_store.hpp"

namespace tornado::inline v1 {

/// What every LiveStore does. A Factory is made from nothing and has `Runtime& runtime()`, `LiveStore& live()` (empty
/// when made) and `void pass(Seconds)`, which lets that much time go by for the store.
template <class Factory>
class LiveStoreSuite : public ::testing::Test {
 protected:
  template <class T>
  Result<T> wait(Task<T> task) {
    return factory_.runtime().wait(std::move(task));
  }
  LiveStore& live() { return factory_.live(); }
  SessionRecord record(std::string id, std::string instance, Seconds until = Seconds(3600)) {
    SessionRecord out;
    out.session_id = std::move(id);
    out.instance = Instance(std::move(instance));
    out.json = R"({"instance":")" + out.instance.str() + "\"}";
    out.deadline = factory_.runtime().now() + until;
    return out;
  }
  void put(std::string id, std::string instance, Seconds until = Seconds(3600)) {
    auto done = wait(live().put(record(std::move(id), std::move(instance), until)));
    ASSERT_TRUE(done) << done.error().detail();
  }
  std::vector<std::string> ids(std::string after = "", int limit = 100) {
    std::vector<std::string> out;
    for (const auto& entry : wait(live().list(std::move(after), limit)).value()) out.push_back(entry.session_id);
    return out;
  }
  Verdict hit(std::string key, int limit = 3) {
    ThrottleRule rule;
    rule.limit = limit;
    rule.window = Seconds(300);
    rule.ban = Seconds(900);
    return wait(live().hit(std::move(key), rule)).value();
  }
  Verdict peek(std::string key) { return wait(live().peek(std::move(key))).value(); }

  Factory factory_;
};

TYPED_TEST_SUITE_P(LiveStoreSuite);

TYPED_TEST_P(LiveStoreSuite, keeps_its_generation) {
  auto first = this->wait(this->live().generation()).value();
  EXPECT_FALSE(first.empty());
  EXPECT_EQ(this->wait(this->live().generation()).value(), first);
}

TYPED_TEST_P(LiveStoreSuite, lists_published_sessions_in_order_and_in_pages) {
  for (const char* id : {"c", "a", "b"}) this->put(id, "1");
  EXPECT_EQ(this->ids(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(this->ids("", 2), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(this->ids("b"), (std::vector<std::string>{"c"}));
  EXPECT_TRUE(this->ids("c").empty());
  EXPECT_EQ(this->wait(this->live().list("", 0)).error().code(), errc::invalid_argument);
  EXPECT_EQ(this->wait(this->live().list("", 10'001)).error().code(), errc::invalid_argument);
}

TYPED_TEST_P(LiveStoreSuite, gives_back_what_was_published) {
  this->put("a", "1");
  auto page = this->wait(this->live().list("", 10)).value();
  ASSERT_EQ(page.size(), 1u);
  EXPECT_EQ(page[0].instance, Instance("1"));
  EXPECT_EQ(page[0].json, R"({"instance":"1"})");
}

TYPED_TEST_P(LiveStoreSuite, refuses_an_older_instance) {
  this->put("a", "2");
  EXPECT_EQ(this->wait(this->live().put(this->record("a", "1"))).error().code(), errc::conflict);
  this->put("a", "2");
  this->put("a", "3");
  EXPECT_EQ(this->wait(this->live().list("", 10)).value().at(0).instance, Instance("3"));
}

TYPED_TEST_P(LiveStoreSuite, erases_only_the_instance_it_was_told) {
  this->put("a", "2");
  EXPECT_TRUE(this->wait(this->live().erase("a", Instance("1"))));
  EXPECT_EQ(this->ids().size(), 1u);
  EXPECT_TRUE(this->wait(this->live().erase("a", Instance("2"))));
  EXPECT_TRUE(this->wait(this->live().erase("a", Instance("2"))));
  EXPECT_TRUE(this->ids().empty());
}

TYPED_TEST_P(LiveStoreSuite, forgets_a_session_after_its_deadline) {
  this->put("a", "1", Seconds(60));
  this->put("b", "1", Seconds(600));
  this->factory_.pass(Seconds(61));
  EXPECT_EQ(this->ids(), std::vector<std::string>{"b"});
}

TYPED_TEST_P(LiveStoreSuite, bans_at_the_limit_and_says_for_how_long) {
  EXPECT_TRUE(this->peek("k").allowed);
  EXPECT_TRUE(this->hit("k").allowed);
  EXPECT_TRUE(this->hit("k").allowed);
  EXPECT_EQ(this->peek("k").failures, 2);
  Verdict third = this->hit("k");
  EXPECT_FALSE(third.allowed);
  EXPECT_GT(third.retry_after, Seconds(890));
  EXPECT_LE(third.retry_after, Seconds(900));
  EXPECT_FALSE(this->peek("k").allowed);
  EXPECT_TRUE(this->peek("other").allowed);
}

TYPED_TEST_P(LiveStoreSuite, does_not_count_when_it_only_looks) {
  this->hit("k");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(this->peek("k").failures, 1);
  EXPECT_TRUE(this->peek("k").allowed);
}

TYPED_TEST_P(LiveStoreSuite, forgets_failures_that_left_the_window) {
  this->hit("k");
  this->hit("k");
  this->factory_.pass(Seconds(301));
  EXPECT_EQ(this->peek("k").failures, 0);
  EXPECT_TRUE(this->hit("k").allowed);
  EXPECT_EQ(this->peek("k").failures, 1);
}

TYPED_TEST_P(LiveStoreSuite, ends_a_ban_in_time) {
  for (int i = 0; i < 3; ++i) this->hit("k");
  this->factory_.pass(Seconds(850));
  EXPECT_FALSE(this->peek("k").allowed);
  this->factory_.pass(Seconds(51));
  EXPECT_TRUE(this->peek("k").allowed);
}

TYPED_TEST_P(LiveStoreSuite, clears_failures_and_bans) {
  for (int i = 0; i < 3; ++i) this->hit("k");
  EXPECT_TRUE(this->wait(this->live().clear("k")));
  EXPECT_TRUE(this->wait(this->live().clear("k")));
  EXPECT_TRUE(this->peek("k").allowed);
  EXPECT_EQ(this->peek("k").failures, 0);
}

TYPED_TEST_P(LiveStoreSuite, lists_what_is_throttled) {
  this->hit("once");
  for (int i = 0; i < 3; ++i) this->hit("banned");
  auto all = this->wait(this->live().throttled()).value();
  ASSERT_EQ(all.size(), 2u);
  for (const auto& state : all) {
    bool banned = state.key == "banned";
    EXPECT_EQ(state.failures, banned ? 3 : 1) << state.key;
    EXPECT_EQ(state.banned_until != Instant(), banned) << state.key;
  }
}

TYPED_TEST_P(LiveStoreSuite, lets_one_caller_claim_a_key) {
  EXPECT_TRUE(this->wait(this->live().claim("k", Seconds(60))).value());
  EXPECT_FALSE(this->wait(this->live().claim("k", Seconds(60))).value());
  EXPECT_TRUE(this->wait(this->live().claim("other", Seconds(60))).value());
  this->factory_.pass(Seconds(61));
  EXPECT_TRUE(this->wait(this->live().claim("k", Seconds(60))).value());
}

TYPED_TEST_P(LiveStoreSuite, does_not_lengthen_a_claim_by_trying) {
  EXPECT_TRUE(this->wait(this->live().claim("k", Seconds(60))).value());
  this->factory_.pass(Seconds(40));
  EXPECT_FALSE(this->wait(this->live().claim("k", Seconds(60))).value());
  this->factory_.pass(Seconds(21));
  EXPECT_TRUE(this->wait(this->live().claim("k", Seconds(60))).value());
}

TYPED_TEST_P(LiveStoreSuite, gives_a_kept_value_out_once) {
  const std::string bytes("with\0zero", 9);
  EXPECT_TRUE(this->wait(this->live().keep("k", bytes, Seconds(60))));
  EXPECT_EQ(this->wait(this->live().take("k")).value(), bytes);
  EXPECT_EQ(this->wait(this->live().take("k")).error().code(), errc::not_found);
  EXPECT_EQ(this->wait(this->live().take("never")).error().code(), errc::not_found);
}

TYPED_TEST_P(LiveStoreSuite, forgets_a_kept_value_in_time) {
  EXPECT_TRUE(this->wait(this->live().keep("k", "v", Seconds(60))));
  this->factory_.pass(Seconds(61));
  EXPECT_EQ(this->wait(this->live().take("k")).error().code(), errc::not_found);
}

TYPED_TEST_P(LiveStoreSuite, publishes_without_anybody_listening) {
  EXPECT_TRUE(this->wait(this->live().publish("vpn:live_events", R"({"action":"test"})")));
}

TYPED_TEST_P(LiveStoreSuite, delivers_commands_in_order_until_they_are_acknowledged) {
  for (const char* json : {"1", "2", "3"}) EXPECT_TRUE(this->wait(this->live().send("g", json)));
  EXPECT_TRUE(this->wait(this->live().receive("h", "")).value().empty());
  auto all = this->wait(this->live().receive("g", "")).value();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].json + all[1].json + all[2].json, "123");
  EXPECT_LT(all[0].id, all[1].id);
  EXPECT_LT(all[1].id, all[2].id);
  EXPECT_EQ(this->wait(this->live().receive("g", "")).value().size(), 3u);
  auto rest = this->wait(this->live().receive("g", all[1].id)).value();
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].json, "3");
  EXPECT_TRUE(this->wait(this->live().receive("g", rest[0].id)).value().empty());
}

TYPED_TEST_P(LiveStoreSuite, delivers_at_most_a_hundred_commands_at_a_time) {
  for (int i = 0; i < 150; ++i) EXPECT_TRUE(this->wait(this->live().send("g", std::to_string(i))));
  auto first = this->wait(this->live().receive("g", "")).value();
  ASSERT_EQ(first.size(), 100u);
  auto second = this->wait(this->live().receive("g", first.back().id)).value();
  ASSERT_EQ(second.size(), 50u);
  EXPECT_EQ(second.front().json, "100");
}

REGISTER_TYPED_TEST_SUITE_P(LiveStoreSuite, keeps_its_generation, lists_published_sessions_in_order_and_in_pages,
                            gives_back_what_was_published, refuses_an_older_instance,
                            erases_only_the_instance_it_was_told, forgets_a_session_after_its_deadline,
                            bans_at_the_limit_and_says_for_how_long, does_not_count_when_it_only_looks,
                            forgets_failures_that_left_the_window, ends_a_ban_in_time, clears_failures_and_bans,
                            lists_what_is_throttled, lets_one_caller_claim_a_key, does_not_lengthen_a_claim_by_trying,
                            gives_a_kept_value_out_once, forgets_a_kept_value_in_time,
                            publishes_without_anybody_listening, delivers_commands_in_order_until_they_are_acknowledged,
                            delivers_at_most_a_hundred_commands_at_a_time);

}  // namespace tornado::inline v1
