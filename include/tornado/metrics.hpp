#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tornado/export.hpp"

namespace tornado::inline v1 {

/// Names and values that tell the members of a metric family apart: {{"lane", "vpn"}}. Values may be any text.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

/// Only grows; begins at zero with the process. Loop thread.
class MetricCounter {
 public:
  void add(std::uint64_t by = 1) noexcept { value_ += by; }
  std::uint64_t value() const noexcept { return value_; }

 private:
  std::uint64_t value_ = 0;
};

/// Counts observations by size. Loop thread.
class TORNADO_API MetricHistogram {
 public:
  /// Upper bounds of the buckets, ascending; one for everything above is added.
  explicit MetricHistogram(std::vector<double> bounds);
  void observe(double value) noexcept;
  /// Half a millisecond to ten seconds.
  static std::vector<double> seconds();

  const std::vector<double>& bounds() const noexcept { return bounds_; }
  /// Of each bucket alone, in the order of the bounds; the last one is everything above.
  const std::vector<std::uint64_t>& counts() const noexcept { return counts_; }
  double sum() const noexcept { return sum_; }

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_;
  double sum_ = 0;
};

/// Writes the text exposition format of Prometheus, version 0.0.4. A family is begun once and followed by its samples.
class TORNADO_API MetricText {
 public:
  static constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";
  /// `type`: "counter", "gauge" or "histogram".
  MetricText& family(std::string_view name, std::string_view type, std::string_view help);
  MetricText& sample(const MetricLabels& labels, std::uint64_t value);
  MetricText& sample(const MetricLabels& labels, double value);
  MetricText& sample(const MetricLabels& labels, const MetricHistogram& histogram);
  std::string take() { return std::move(text_); }

 private:
  void name(std::string_view suffix, const MetricLabels& labels, std::string_view bound = {});

  std::string text_, family_;
};

/// The counters and histograms of a process. What a gauge tells is asked of its owner when it is read. Loop thread;
/// what it returns lives as long as it does.
class TORNADO_API Metrics {
 public:
  /// The member of a family with these labels, made when it is first asked for. A name belongs to one kind.
  MetricCounter& counter(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  MetricHistogram& histogram(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  void write(MetricText& out) const;

 private:
  template <class T>
  struct Family {
    std::string help;
    std::map<MetricLabels, std::unique_ptr<T>> members;
  };
  std::map<std::string, Family<MetricCounter>, std::less<>> counters_;
  std::map<std::string, Family<MetricHistogram>, std::less<>> histograms_;
};

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count(); }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace tornado::inline v1
