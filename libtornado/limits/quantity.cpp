#include "limits/quantity.hpp"

#include <charconv>
#include <cstdio>
#include <span>

namespace tornado::inline v1 {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t size;
};

constexpr Unit rates[] = {{"kbit/s", 1'000}, {"Mbit/s", 1'000'000}, {"Gbit/s", 1'000'000'000}};
constexpr Unit volumes[] = {{"MB", 1'000'000},   {"GB", 1'000'000'000}, {"TB", 1'000'000'000'000},
                            {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30},   {"TiB", 1ULL << 40}};
/// Whole numbers below this stay within 64 bits in every unit.
constexpr std::uint64_t most = 1'000'000;
constexpr std::uint64_t most_bits = 100'000'000'000;

Result<std::uint64_t> parse(std::string_view text, std::span<const Unit> units, std::string_view example) {
  std::uint64_t number = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  if (ec == std::errc() && number > 0 && number <= most)
    for (const Unit& known : units)
      if (known.name == unit) return number * known.size;
  return Error(errc::invalid_argument, "a whole number and a unit are expected, such as \"" + std::string(example) +
                                           "\", not \"" + std::string(text.substr(0, 40)) + "\"");
}

std::string scaled(std::uint64_t value, std::span<const std::string_view> names) {
  double shown = static_cast<double>(value);
  std::size_t unit = 0;
  for (; shown >= 1000 && unit + 1 < names.size(); ++unit) shown /= 1000;
  char out[32];
  std::snprintf(out, sizeof out, shown == static_cast<double>(static_cast<std::uint64_t>(shown)) ? "%.0f" : "%.1f",
                shown);
  return std::string(out) + " " + std::string(names[unit]);
}

}  // namespace

Result<std::uint64_t> parse_rate(std::string_view text) {
  auto bits = parse(text, rates, "20 Mbit/s");
  if (!bits) return bits;
  // The kernel multiplies by nanoseconds in 64 bits.
  if (*bits > most_bits) return Error(errc::invalid_argument, "a pace is at most 100 Gbit/s");
  return *bits / 8;
}

Result<std::uint64_t> parse_volume(std::string_view text) {
  return parse(text, volumes, "50 GB");
}

std::string volume_text(std::uint64_t bytes) {
  static constexpr std::string_view names[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
  return scaled(bytes, names);
}

std::string rate_text(std::uint64_t bytes_per_second) {
  static constexpr std::string_view names[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"};
  return scaled(bytes_per_second * 8, names);
}

}  // namespace tornado::inline v1
