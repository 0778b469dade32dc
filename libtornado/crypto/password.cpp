#include "crypto/password.hpp"

#include <argon2.h>
#include <sys/mman.h>

#include <charconv>
#include <vector>

#include "base/encoding.hpp"

namespace tornado::inline v1 {
namespace {

std::string unpadded(std::string_view bytes) {
  std::string text = base64(bytes);
  while (text.ends_with('=')) text.pop_back();
  return text;
}

std::optional<std::string> from_unpadded(std::string_view text) {
  std::string padded(text);
  while (padded.size() % 4 != 0) padded += '=';
  return from_base64(padded);
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (;;) {
    auto at = text.find(by);
    parts.push_back(text.substr(0, at));
    if (at == text.npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool read(std::string_view field, std::string_view key, std::uint32_t& value) {
  if (!field.starts_with(key)) return false;
  field.remove_prefix(key.size());
  auto [end, ec] = std::from_chars(field.data(), field.data() + field.size(), value);
  return ec == std::errc() && end == field.data() + field.size();
}

}  // namespace

Result<Argon2Hash> Argon2Hash::parse(std::string_view encoded) {
  auto parts = split(encoded, '$');
  Error malformed(errc::invalid_argument, "not an Argon2id version 19 hash");
  if (parts.size() != 6 || !parts[0].empty() || parts[1] != "argon2id" || parts[2] != "v=19") return malformed;
  auto costs = split(parts[3], ',');
  Argon2Hash out;
  if (costs.size() != 3 || !read(costs[0], "m=", out.memory_kib) || !read(costs[1], "t=", out.passes) ||
      !read(costs[2], "p=", out.lanes))
    return malformed;
  auto salt = from_unpadded(parts[4]), hash = from_unpadded(parts[5]);
  if (!salt || !hash || salt->size() < 8 || hash->size() < 12 || hash->size() > 512) return malformed;
  if (out.lanes < 1 || out.lanes > 255 || out.passes < 1 || out.memory_kib < 8 * out.lanes) return malformed;
  out.salt = std::move(*salt);
  out.hash = std::move(*hash);
  return out;
}

std::string Argon2Hash::str() const {
  return "$argon2id$v=19$m=" + std::to_string(memory_kib) + ",t=" + std::to_string(passes) +
         ",p=" + std::to_string(lanes) + "$" + unpadded(salt) + "$" + unpadded(hash);
}

struct Argon2Arena::Memory {
  void* pages = nullptr;
  std::size_t size = 0;

  void* grow(std::size_t wanted) {
    if (wanted > size) {
      release();
      void* mapped = ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (mapped == MAP_FAILED) return nullptr;
      pages = mapped;
      size = wanted;
      ::madvise(pages, size, MADV_HUGEPAGE);
    }
    return pages;
  }

  void release() {
    if (pages != nullptr) ::munmap(pages, size);
    pages = nullptr;
    size = 0;
  }
};

namespace {

/// libargon2 asks for memory through plain functions; the arena of this thread's computation answers.
thread_local Argon2Arena::Memory* current = nullptr;

int allocate(std::uint8_t** memory, std::size_t bytes) {
  *memory = static_cast<std::uint8_t*>(current->grow(bytes));
  return *memory != nullptr ? ARGON2_OK : ARGON2_MEMORY_ALLOCATION_ERROR;
}

void give_back(std::uint8_t*, std::size_t) {}

}  // namespace

Argon2Arena::Argon2Arena() : memory_(std::make_unique<Memory>()) {}
Argon2Arena::~Argon2Arena() {
  memory_->release();
}
void Argon2Arena::release() {
  memory_->release();
}

Result<std::string> Argon2Arena::compute(std::string_view password, const Argon2Hash& like, std::size_t size) {
  std::string out(size, '\0'), secret(password), salt(like.salt);
  argon2_context context{};
  context.out = reinterpret_cast<std::uint8_t*>(out.data());
  context.outlen = static_cast<std::uint32_t>(size);
  context.pwd = reinterpret_cast<std::uint8_t*>(secret.data());
  context.pwdlen = static_cast<std::uint32_t>(secret.size());
  context.salt = reinterpret_cast<std::uint8_t*>(salt.data());
  context.saltlen = static_cast<std::uint32_t>(salt.size());
  context.t_cost = like.passes;
  context.m_cost = like.memory_kib;
  context.lanes = like.lanes;
  context.threads = 1;
  context.version = ARGON2_VERSION_13;
  context.allocate_cbk = allocate;
  context.free_cbk = give_back;
  context.flags = ARGON2_FLAG_CLEAR_PASSWORD;
  current = memory_.get();
  int rc = argon2id_ctx(&context);
  current = nullptr;
  if (rc != ARGON2_OK) return Error(errc::internal, argon2_error_message(rc));
  return out;
}

}  // namespace tornado::inline v1
