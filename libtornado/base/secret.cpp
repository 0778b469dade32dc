#include "tornado/secret.hpp"

#include <openssl/crypto.h>

namespace tornado::inline v1 {

Secret::Secret(std::string_view bytes) {
  if (!bytes.empty()) bytes_ = std::make_unique<std::string>(bytes);
}

Secret::Secret(std::string&& bytes) : Secret(std::string_view(bytes)) {
  OPENSSL_cleanse(bytes.data(), bytes.size());
  bytes.clear();
}

Secret::Secret(const Secret& other) : bytes_(other.bytes_ ? std::make_unique<std::string>(*other.bytes_) : nullptr) {}

Secret& Secret::operator=(const Secret& other) {
  if (this != &other) *this = Secret(other);
  return *this;
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    wipe();
    bytes_ = std::move(other.bytes_);
  }
  return *this;
}

bool Secret::operator==(const Secret& other) const noexcept {
  return size() == other.size() && CRYPTO_memcmp(reveal().data(), other.reveal().data(), size()) == 0;
}

void Secret::wipe() noexcept {
  if (!bytes_) return;
  OPENSSL_cleanse(bytes_->data(), bytes_->size());
  bytes_.reset();
}

}  // namespace tornado::inline v1
