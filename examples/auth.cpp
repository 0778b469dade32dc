// Sign people in from another program's own HTTP server: passwords and tokens, no tunnels.
#include <tornado/auth.hpp>

#include "check.hpp"

using namespace tornado;

int main() {
  Runtime runtime;
  auto database = open_sqlite(runtime, "accounts.db");
  auto live = memory_live_store(runtime);
  PasswordPolicy cheap;  // for a quick example; leave the default in a real program
  cheap.passes = 1;
  cheap.memory_kib = 8192;
  Users users(runtime, *database, cheap);
  KeyRotator keys(runtime, KeyOptions("keys"));
  Auth auth(runtime, users, *live, keys);

  runtime.wait(database->migrate()).value();
  runtime.wait(keys.open()).value();
  NewUser alice("alice", "alice@example.org");
  alice.password = Secret("correct horse");
  runtime.wait(users.create(alice)).value();

  auto source = Address::parse("198.51.100.7").value();
  auto wrong = runtime.wait(auth.verify(source, Credentials("alice", Secret("guess"))));
  check(!wrong && wrong.error().code() == errc::invalid_credentials, "a wrong password is refused");
  auto user = runtime.wait(auth.verify(source, Credentials("Alice@example.org", Secret("correct horse")))).value();
  auto login = runtime.wait(auth.issue(user, "laptop")).value();

  // Signature and times only: no I/O, good for every request.
  auto claims = auth.check(login.tokens.access.reveal()).value();
  auto account = runtime.wait(auth.authorize(claims)).value();
  check(account.device == login.device.id && account.may_connect(), "the token leads to the device");

  auto refreshed = runtime.wait(auth.refresh(source, std::string(login.tokens.refresh.reveal()))).value();
  check(!(refreshed.tokens.refresh == login.tokens.refresh), "a refresh gives a new refresh token");

  runtime.wait(users.suspend(user.id)).value();
  auto after = runtime.wait(auth.authorize(claims));
  check(!after && class_of(after.error().code()) == error_class::unauthenticated,
        "suspended: the token is void at once");
  runtime.wait(database->close()).value();
}
