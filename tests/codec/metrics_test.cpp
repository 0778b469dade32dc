#include "tornado/metrics.hpp"

#include <gtest/gtest.h>

using namespace tornado;

TEST(Metrics, WritesTheTextFormat) {
  Metrics metrics;
  metrics.counter("requests_total", "Requests.", {{"path", "/a"}}).add(3);
  metrics.counter("requests_total", "Requests.", {{"path", "/b"}}).add();
  MetricHistogram& wait = metrics.histogram("wait_seconds", "Waited.");
  wait.observe(0.0005);
  wait.observe(0.3);
  wait.observe(60);
  MetricText out;
  metrics.write(out);
  std::string text = out.take();
  EXPECT_TRUE(
      text.starts_with("# HELP requests_total Requests.\n"
                       "# TYPE requests_total counter\n"
                       "requests_total{path=\"/a\"} 3\n"
                       "requests_total{path=\"/b\"} 1\n"
                       "# HELP wait_seconds Waited.\n"
                       "# TYPE wait_seconds histogram\n"
                       "wait_seconds_bucket{le=\"0.0005\"} 1\n"
                       "wait_seconds_bucket{le=\"0.001\"} 1\n"))
      << text;
  EXPECT_NE(text.find("wait_seconds_bucket{le=\"0.25\"} 1\nwait_seconds_bucket{le=\"0.5\"} 2\n"), text.npos);
  EXPECT_TRUE(
      text.ends_with("wait_seconds_bucket{le=\"10\"} 2\nwait_seconds_bucket{le=\"+Inf\"} 3\n"
                     "wait_seconds_sum 60.3005\nwait_seconds_count 3\n"))
      << text;
}

TEST(Metrics, EscapesWhatWouldBreakALine) {
  MetricText out;
  out.family("a", "gauge", "one\\two\nthree \"four\"")
      .sample({{"x", "q\"b\\n\n"}}, std::uint64_t{18446744073709551615U});
  EXPECT_EQ(out.take(),
            "# HELP a one\\\\two\\nthree \"four\"\n# TYPE a gauge\na{x=\"q\\\"b\\\\n\\n\"} 18446744073709551615\n");
}

TEST(Metrics, AMemberIsMadeOnceAndLivesOn) {
  Metrics metrics;
  MetricCounter& first = metrics.counter("a", "A.");
  for (int i = 0; i < 1000; ++i) metrics.counter("a", "A.", {{"i", std::to_string(i)}}).add();
  first.add();
  EXPECT_EQ(metrics.counter("a", "A.").value(), 1U);
}
