#pragma once

#include <cstddef>
#include <memory>
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
  explicit Secret(std::string_view bytes);
  explicit Secret(const char* bytes) : Secret(std::string_view(bytes)) {}
  /// What is given up is cleared.
  explicit Secret(std::string&& bytes);
  Secret(const Secret& other);
  Secret(Secret&&) noexcept = default;
  Secret& operator=(const Secret& other);
  Secret& operator=(Secret&& other) noexcept;
  ~Secret() { wipe(); }

  std::string_view reveal() const noexcept { return bytes_ ? std::string_view(*bytes_) : std::string_view(""); }
  bool empty() const noexcept { return bytes_ == nullptr; }
  std::size_t size() const noexcept { return reveal().size(); }
  bool operator==(const Secret& other) const noexcept;

 private:
  void wipe() noexcept;
  std::unique_ptr<std::string> bytes_;  // null: empty
};

}  // namespace tornado::inline v1
