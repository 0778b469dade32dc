#include "dns/name_lookup.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>

#include "tornado/manual_clock.hpp"

namespace tornado {
namespace {

using Addresses = std::vector<Address>;

const Address first = Address::parse("198.18.0.1").value(), second = Address::parse("198.18.0.2").value();

/// A resolver that is silent until it is told what to say.
class Resolver {
 public:
  NameLookup::Resolve resolve() {
    return [said = said_](const std::string& name) -> Result<Addresses> {
      ++said->asked;
      auto answer = said->next.get_future().get();
      said->next = {};
      if (answer.empty()) return Error(errc::not_found, name + ": not known");
      return answer;
    };
  }
  void say(Addresses addresses) { said_->next.set_value(std::move(addresses)); }
  int asked() const { return said_->asked; }

 private:
  struct Said {
    std::promise<Addresses> next;
    std::atomic<int> asked{0};
  };
  std::shared_ptr<Said> said_ = std::make_shared<Said>();
};

class NameLookupTest : public ::testing::Test {
 protected:
  using Outcome = std::optional<Result<Addresses>>;

  static Task<void> ask(NameLookup& lookup, Outcome& out) {
    out = co_await lookup.addresses(Seconds(5));
    co_return Result<void>();
  }
  Background asking(Outcome& out) {
    Background task = runtime_.spawn(ask(*lookup_, out));
    runtime_.settle();
    return task;
  }
  /// The answer comes from another thread.
  void run_until_told(const Outcome& out) {
    while (!out) runtime_.loop().run_one();
  }
  /// What comes from the other thread, with nobody waiting for it.
  void run_one() {
    auto more = boost::asio::make_work_guard(runtime_.loop());
    runtime_.loop().restart();
    ASSERT_EQ(runtime_.loop().run_one_for(std::chrono::seconds(20)), 1U);
  }
  errc code(const Outcome& out) { return out->error().code(); }

  ManualClock clock_;
  Runtime runtime_{RuntimeOptions().clock(clock_).blocking_threads(1)};
  Resolver resolver_;
  std::unique_ptr<NameLookup> lookup_ = std::make_unique<NameLookup>(runtime_, "gate.example", resolver_.resolve());
};

TEST_F(NameLookupTest, AnAddressIsItsOwnAnswer) {
  NameLookup literal(runtime_, "198.18.0.1", [](const std::string&) -> Result<Addresses> { std::abort(); });
  EXPECT_EQ(runtime_.wait(literal.addresses(Seconds(5))).value(), Addresses{first});
}

TEST_F(NameLookupTest, TheHostsFileIsAsked) {
  NameLookup local(runtime_, "localhost");
  auto found = runtime_.wait(local.addresses(Seconds(5)));
  ASSERT_TRUE(found) << found.error().detail();
  EXPECT_TRUE(found->front().is_loopback());
}

TEST_F(NameLookupTest, WhatTheResolverSaysIsTheAnswer) {
  Outcome found, missed;
  auto one = asking(found);
  resolver_.say({first, second});
  run_until_told(found);
  EXPECT_EQ(found->value(), (Addresses{first, second}));
  auto another = asking(missed);
  resolver_.say({});
  run_until_told(missed);
  EXPECT_EQ(code(missed), errc::not_found);
  EXPECT_EQ(resolver_.asked(), 2) << "each time anew";
}

TEST_F(NameLookupTest, TwoThatAskShareALookup) {
  Outcome one, another;
  auto asks = asking(one), too = asking(another);
  resolver_.say({first});
  run_until_told(one);
  run_until_told(another);
  EXPECT_EQ(one->value(), Addresses{first});
  EXPECT_EQ(another->value(), Addresses{first});
  EXPECT_EQ(resolver_.asked(), 1);
}

TEST_F(NameLookupTest, PatienceEndsAndTheNextWaitsForTheSameAnswer) {
  Outcome impatient, patient;
  auto one = asking(impatient);
  clock_.advance(Seconds(4));
  runtime_.settle();
  EXPECT_FALSE(impatient);
  clock_.advance(Seconds(1));
  runtime_.settle();
  ASSERT_TRUE(impatient);
  EXPECT_EQ(code(impatient), errc::deadline_exceeded);
  auto another = asking(patient);
  resolver_.say({second});
  run_until_told(patient);
  EXPECT_EQ(patient->value(), Addresses{second});
  EXPECT_EQ(resolver_.asked(), 1);
}

TEST_F(NameLookupTest, WhatCameWhenNobodyWaitedIsForWhoAsksNext) {
  Outcome impatient;
  auto one = asking(impatient);
  clock_.advance(Seconds(5));
  runtime_.settle();
  ASSERT_TRUE(impatient);
  EXPECT_EQ(code(impatient), errc::deadline_exceeded);
  resolver_.say({first});
  run_one();
  EXPECT_EQ(runtime_.wait(lookup_->addresses(Seconds(5))).value(), Addresses{first});
  EXPECT_EQ(resolver_.asked(), 1);
  Outcome fresh;
  auto another = asking(fresh);
  EXPECT_FALSE(fresh) << "only once";
  resolver_.say({second});
  run_until_told(fresh);
  EXPECT_EQ(fresh->value(), Addresses{second});
}

TEST_F(NameLookupTest, ALookupMayBeginBeforeAnybodyAsks) {
  ASSERT_TRUE(lookup_->begin());
  ASSERT_TRUE(lookup_->begin());
  resolver_.say({first});
  EXPECT_FALSE(lookup_->answered());
  run_one();
  EXPECT_TRUE(lookup_->answered());
  ASSERT_TRUE(lookup_->begin()) << "the answer is still there";
  EXPECT_EQ(runtime_.wait(lookup_->addresses(Seconds(5))).value(), Addresses{first});
  EXPECT_EQ(resolver_.asked(), 1);
}

TEST_F(NameLookupTest, OneThatThrowsIsAnError) {
  NameLookup throws(runtime_, "gate.example",
                    [](const std::string&) -> Result<Addresses> { throw std::runtime_error("out of luck"); });
  auto found = runtime_.wait(throws.addresses(Seconds(5)));
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), errc::internal);
}

TEST_F(NameLookupTest, WhoIsCancelledWaitsForNothing) {
  Outcome out;
  auto task = asking(out);
  task.stop();
  ASSERT_TRUE(out);
  EXPECT_EQ(code(out), errc::cancelled);
  resolver_.say({first});
}

TEST_F(NameLookupTest, ItMayGoBeforeTheAnswerComes) {
  Outcome out;
  auto task = asking(out);
  lookup_.reset();
  runtime_.settle();
  ASSERT_TRUE(out);
  EXPECT_EQ(code(out), errc::cancelled);
  resolver_.say({first});
}

}  // namespace
}  // namespace tornado
