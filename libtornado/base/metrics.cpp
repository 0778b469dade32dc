#include "tornado/metrics.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace tornado::inline v1 {
namespace {

std::string shown(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char digits[64];
  const double size = std::abs(value);
  const bool plain = size == 0 || (size > 1e-9 && size < 1e15);
  auto end = std::to_chars(digits, digits + sizeof digits, value,
                           plain ? std::chars_format::fixed : std::chars_format::general)
                 .ptr;
  return std::string(digits, end);
}

void append_escaped(std::string& out, std::string_view text, bool quote) {
  for (char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quote) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

}  // namespace

MetricHistogram::MetricHistogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

std::vector<double> MetricHistogram::seconds() {
  return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
}

void MetricHistogram::observe(double value) noexcept {
  auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<std::size_t>(bucket - bounds_.begin())];
  sum_ += value;
}

MetricText& MetricText::family(std::string_view name, std::string_view type, std::string_view help) {
  family_ = name;
  text_ += "# HELP " + family_ + " ";
  append_escaped(text_, help, false);
  text_ += "\n# TYPE " + family_ + " " + std::string(type) + "\n";
  return *this;
}

void MetricText::name(std::string_view suffix, const MetricLabels& labels, std::string_view bound) {
  text_ += family_;
  text_ += suffix;
  char before = '{';
  auto put = [&](std::string_view key, std::string_view value) {
    text_ += before;
    text_ += key;
    text_ += "=\"";
    append_escaped(text_, value, true);
    text_ += '"';
    before = ',';
  };
  for (const auto& [key, value] : labels) put(key, value);
  if (!bound.empty()) put("le", bound);
  text_ += before == ',' ? "} " : " ";
}

MetricText& MetricText::sample(const MetricLabels& labels, std::uint64_t value) {
  name("", labels);
  text_ += std::to_string(value) + "\n";
  return *this;
}

MetricText& MetricText::sample(const MetricLabels& labels, double value) {
  name("", labels);
  text_ += shown(value) + "\n";
  return *this;
}

MetricText& MetricText::sample(const MetricLabels& labels, const MetricHistogram& histogram) {
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < histogram.counts().size(); ++i) {
    below += histogram.counts()[i];
    name("_bucket", labels, i < histogram.bounds().size() ? shown(histogram.bounds()[i]) : "+Inf");
    text_ += std::to_string(below) + "\n";
  }
  name("_sum", labels);
  text_ += shown(histogram.sum()) + "\n";
  name("_count", labels);
  text_ += std::to_string(below) + "\n";
  return *this;
}

MetricCounter& Metrics::counter(std::string_view name, std::string_view help, const MetricLabels& labels) {
  auto& family = counters_[std::string(name)];
  if (family.help.empty()) family.help = help;
  auto& member = family.members[labels];
  if (!member) member = std::make_unique<MetricCounter>();
  return *member;
}

MetricHistogram& Metrics::histogram(std::string_view name, std::string_view help, const MetricLabels& labels) {
  auto& family = histograms_[std::string(name)];
  if (family.help.empty()) family.help = help;
  auto& member = family.members[labels];
  if (!member) member = std::make_unique<MetricHistogram>(MetricHistogram::seconds());
  return *member;
}

void Metrics::write(MetricText& out) const {
  for (const auto& [name, family] : counters_) {
    out.family(name, "counter", family.help);
    for (const auto& [labels, counter] : family.members) out.sample(labels, counter->value());
  }
  for (const auto& [name, family] : histograms_) {
    out.family(name, "histogram", family.help);
    for (const auto& [labels, histogram] : family.members) out.sample(labels, *histogram);
  }
}

}  // namespace tornado::inline v1
