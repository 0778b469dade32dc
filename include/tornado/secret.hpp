#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "tornado/export.hpp"

namespace tornado::inline v1 {

/// Bytes that must not be printed: passwords, private keys, tokens.
///
/// Movable and copyable; the memory is cleared when it is given up. There is no stream operator and no conversion to
/// a string: `reveal` marks every place that looks inside. `==` takes constant time for equal lengths.
class TORNADO_API Secret {
 public:
  Secret() = default;
  explicit Secret(std::string bytes) : bytes_(std::move(bytes)) {}
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept : bytes_(std::move(other.bytes_)) { other.wipe(); }
  Secret& operator=(const Secret& other);
  Secret& operator=(Secret&& other) noexcept;
  ~Secret() { wipe(); }

  std::string_view reveal() const noexcept { return bytes_; }
  bool empty() const noexcept { return bytes_.empty(); }
  std::size_t size() const noexcept { return bytes_.size(); }
  bool operator==(const Secret& other) const noexcept;

 private:
  void wipe() noexcept;
  std::string bytes_;
};

}  // namespace tornado::inline v1
