// The primitives that bound the client contract, to compare with in the same run: RSA signing, RSA verification,
// Argon2id with the original's cost, X25519.
#include <benchmark/benchmark.h>

#include "crypto/jwt_codec.hpp"
#include "crypto/password.hpp"
#include "crypto/seal.hpp"

namespace tornado {
namespace {

void rs256_sign(benchmark::State& state) {
  auto key = RsaKey::generate().value();
  for (auto _ : state) benchmark::DoNotOptimize(key.sign("a signing input of no importance"));
}
BENCHMARK(rs256_sign)->Unit(benchmark::kMicrosecond);

void rs256_verify(benchmark::State& state) {
  auto key = RsaKey::generate().value();
  auto signature = key.sign("a signing input of no importance").value();
  for (auto _ : state) benchmark::DoNotOptimize(key.verify("a signing input of no importance", signature));
}
BENCHMARK(rs256_verify)->Unit(benchmark::kMicrosecond);

void argon2id_64_mib(benchmark::State& state) {
  Argon2Arena arena;
  Argon2Hash like;
  like.salt = std::string(16, 's');
  for (auto _ : state) benchmark::DoNotOptimize(arena.compute("correct horse", like, 32));
}
BENCHMARK(argon2id_64_mib)->Unit(benchmark::kMillisecond)->Threads(1)->Threads(2)->UseRealTime();

void x25519_agree(benchmark::State& state) {
  auto own = X25519Key::generate(), other = X25519Key::generate();
  for (auto _ : state) benchmark::DoNotOptimize(own.agree(other.public_key()));
}
BENCHMARK(x25519_agree)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tornado

BENCHMARK_MAIN();
