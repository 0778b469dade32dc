// Rotate signing keys on a schedule and verify tokens signed before the change.
#include <tornado/key_rotator.hpp>
#include <tornado/manual_clock.hpp>

#include "check.hpp"

using namespace tornado;
using namespace std::chrono_literals;

int main() {
  ManualClock clock;
  Runtime runtime(RuntimeOptions().clock(clock));
  KeyRotator keys(runtime, KeyOptions("keys"));
  runtime.wait(keys.open()).value();
  Background running = runtime.spawn(keys.run());  // the schedule; cancelled before what it uses goes
  runtime.settle();

  auto before = keys.ring();  // immutable: hold it as long as you like
  auto sign = [&](const KeyRing& ring, std::string id) {
    auto now = std::chrono::duration_cast<Seconds>(clock.now().time_since_epoch()).count();
    auto claims =
        R"({"sub":")" + id + R"(","iat":)" + std::to_string(now) + R"(,"exp":)" + std::to_string(now + 900) + "}";
    return ring.sign(KeyUse::access, claims).value();
  };
  auto token = sign(*before, "alice");
  auto count = keys.list().size();
  runtime.wait(keys.rotate(KeyUse::access)).value();
  check(keys.list().size() == count + 1, "a new key is published");

  auto published = keys.ring();
  clock.advance(2min);  // the lead is over: the new key signs, once the set is on disk
  while (keys.ring() == published) runtime.settle();
  auto newer = sign(*keys.ring(), "bob");
  check(!before->verify(KeyUse::access, newer, clock.now()), "the old ring does not know the new key");
  check(keys.ring()->verify(KeyUse::access, token, clock.now()).has_value(), "the new ring knows the old token");
  auto refused = keys.ring()->verify(KeyUse::refresh, token, clock.now());
  check(!refused && refused.error().code() == errc::token_invalid, "an access token is no refresh token");
  clock.advance(20min);
  auto expired = keys.ring()->verify(KeyUse::access, token, clock.now());
  check(!expired && expired.error().code() == errc::token_expired, "tokens end when they say");
  std::printf("publish: %.60s...\n", keys.ring()->jwks().c_str());
}
