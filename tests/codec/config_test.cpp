#include <gtest/gtest.h>

#include <fstream>

#include "dns/upstreams.hpp"
#include "support/scratch.hpp"
#include "tornado/config.hpp"

using namespace tornado;

namespace {

class ConfigFile : public testing::Test {
 protected:
  Result<Config> load(const std::string& text) {
    std::ofstream(scratch_ / "tornado.json") << text;
    return Config::load(scratch_ / "tornado.json");
  }
  std::string fault(const std::string& text) {
    auto loaded = load(text);
    EXPECT_FALSE(loaded) << text;
    if (loaded) return {};
    EXPECT_EQ(loaded.error().code(), errc::invalid_config);
    return loaded.error().detail();
  }
  test::Scratch scratch_;
};

/// The complaint about one value, wherever it is noticed.
std::string complaint(const std::string& key, const std::string& value) {
  Config config;
  auto set = config.set(key, value);
  auto checked = set ? config.check() : set;
  EXPECT_FALSE(checked) << key << "=" << value << " was taken";
  if (checked) return {};
  EXPECT_EQ(checked.error().code(), errc::invalid_config);
  return checked.error().detail();
}

}  // namespace

TEST(Config, DefaultsAreSound) {
  EXPECT_TRUE(Config().check());
  EXPECT_TRUE(Config().diff(Config()).empty());
}

TEST(Config, AValueIsWhatSetTakes) {
  Config config;
  config.dns.upstream = "9.9.9.9";
  config.tor.bridges = {"a \"quoted\" one", "b"};
  Config copy;
  for (const auto& key : copy.diff(config)) {
    auto value = config.value(key);
    ASSERT_TRUE(value) << key;
    EXPECT_TRUE(copy.set(key, *value)) << key;
  }
  EXPECT_TRUE(copy.diff(config).empty());
  EXPECT_EQ(config.value("dns.upstraem").error().code(), errc::invalid_config);
  EXPECT_TRUE(Config::reloadable("dns.upstream"));
  EXPECT_FALSE(Config::reloadable("lanes.vpn.pool"));
  EXPECT_FALSE(Config::reloadable("nothing"));
}

TEST(Config, EveryMalformedValueNamesItsPath) {
  const std::pair<const char*, std::vector<const char*>> bad[] = {
      {"state_dir", {"", "relative", "1", "[]", "null"}},
      {"runtime_dir", {"", "run"}},
      {"client_api.listen", {"", "0.0.0.0", ":4605", "host:4605", "1.2.3.4:65536", "4605"}},
      {"client_api.public", {"[\"x y\"]", "[1]", "7", "[\"1.2.3.4:0:0\"]"}},
      {"client_api.max_connections", {"0", "-1", "1.5", "true", "many", "1000001", "99999999999"}},
      {"client_api.max_connections_per_address", {"0"}},
      {"client_api.idle_timeout", {"0", "301"}},
      {"client_api.request_timeout", {"0"}},
      {"client_api.max_body", {"1023", "1048577"}},
      {"client_api.trust_forwarded_for", {"1", "yes", "\"true\""}},
      {"endpoint.host", {"2001:db8::1", "host:51820"}},
      {"lanes.vpn.interface", {"", "a/b", "sixteen-letters-", "wg 0", "wg1"}},
      {"lanes.vpn.listen_port", {"0", "65536", "-1", "51821"}},
      {"lanes.vpn.pool", {"", "10.8.0.1/24", "10.8.0.0/7", "10.8.0.0/31", "2001:db8::/64", "10.9.0.0/16"}},
      {"lanes.vpn.pool6", {"fd00::/63", "fd00::/127", "10.0.0.0/24", "fd00::1/64", "fd00::/64"}},
      {"lanes.tor.mtu", {"1279", "9001"}},
      {"session.heartbeat_ttl", {"9", "3601"}},
      {"session.hard_ttl", {"59"}},
      {"session.idle_ttl", {"89"}},
      {"session.grace", {"3601"}},
      {"session.quiet_after", {"9", "86401"}},
      {"session.sample_interval", {"0"}},
      {"session.checkpoint_interval", {"0"}},
      {"session.reconcile_interval", {"0", "3601"}},
      {"ipam.quarantine", {"659", "1000001"}},
      {"ipam.lease_term", {"9"}},
      {"firewall.known_chains",
       {"\"ip filter\"", "[\"ip filter FORWARD x\"]", "[\"arp filter INPUT\"]", "[7]", "[\"ip  FORWARD\"]"}},
      {"firewall.connections_per_device", {"-1", "65536", "many", "1.5"}},
      {"ipam.warn_percent", {"0", "101"}},
      {"auth.issuer", {""}},
      {"auth.audience", {"\"\""}},
      {"auth.access_term", {"119", "86401"}},
      {"auth.refresh_term", {"899", "31536001"}},
      {"auth.retry_window", {"301"}},
      {"auth.address_failures", {"0"}},
      {"auth.account_failures", {"0"}},
      {"auth.failure_window", {"0"}},
      {"auth.ban", {"0"}},
      {"auth.hash_memory_kib", {"31", "262145"}},
      {"auth.hash_passes", {"0", "11"}},
      {"auth.hash_lanes", {"0", "17"}},
      {"keys.lead", {"3601"}},
      {"keys.rotate_every", {"59", "60"}},
      {"keys.login_every", {"59"}},
      {"database.url", {"postgres://x", "/var/x.db"}},
      {"database.reserve_mib", {"1025"}},
      {"live.url", {"redis://x"}},
      {"dns.upstream", {"127.0.0.53", "127.0.0.1:53", "::1", "2001:db8::1", "resolver"}},
      {"dns.upstream6", {"::1", "1.1.1.1"}},
      {"metrics.listen", {"9586", "localhost:9586", "127.0.0.1"}},
      {"policy.versions", {"0", "10001"}},
      {"policy.usage_months", {"0", "121", "many"}},
      {"wireguard.backend", {"module", ""}},
      {"wireguard.foreign_peers", {"ignore"}},
      {"wireguard.launch", {"", "systemd"}},
      {"tor.launch", {"", "systemd", "1"}},
      {"tor.socket_dir", {"", "run"}},
      {"tor.program", {"tor", ""}},
      {"tor.trans_port", {"0", "65536", "-1"}},
      {"tor.dns_port", {"0", "9040"}},
      {"tor.responder_port", {"0", "9041"}},
      {"tor.bridges", {"[\"x\"]", "[\"obfs4 192.0.2.1\"]", "[1]"}},
      {"tor.exit_countries", {"[\"germany\"]", "[\"d1\"]"}},
      {"tor.excluded_countries", {"[\"\"]"}},
      {"tor.proxy", {"proxy:1080", "socks5://proxy", "http://proxy:1"}},
      {"tor.data_limit", {"5", "5 Bytes", "-5 GBytes"}},
      {"tor.options", {"[\"SocksPort 9050\"]", "[\"X\"]", "[\"\"]"}},
      {"tor.patience", {"9", "3601"}},
      {"log.level", {"trace"}}};
  for (const auto& [key, values] : bad)
    for (const char* value : values) {
      std::string said = complaint(key, value);
      // Two lanes contradict each other: the complaint names the second one.
      std::string_view leaf = std::string_view(key).substr(std::string_view(key).rfind('.') + 1);
      bool named = said.starts_with(std::string(key) + ":") || said.starts_with("lanes.tor." + std::string(leaf) + ":");
      EXPECT_TRUE(named) << key << "=" << value << " -> " << said;
    }
}

TEST_F(ConfigFile, UnknownKeysAreNamed) {
  EXPECT_NE(fault(R"({"sesion":{"grace":1}})").find("sesion: no such key"), std::string::npos);
  EXPECT_NE(fault(R"({"session":{"grase":1}})").find("session.grase: no such key"), std::string::npos);
  EXPECT_NE(fault(R"({"session":1})").find("session: no such key"), std::string::npos);
  EXPECT_NE(fault(R"({"session":{"grace":{"x":1}}})").find("session.grace: no such key"), std::string::npos);
  EXPECT_NE(fault(R"({"":1})").find("no such key"), std::string::npos);
  EXPECT_NE(fault(R"({"session.grace":1, "x":2})").find("x: no such key"), std::string::npos);
}

TEST_F(ConfigFile, MalformedFilesNameTheLine) {
  for (const char* text : {"", "{", "[]", "null", "{\"a\":1", "\xff"}) EXPECT_FALSE(fault(text).empty());
  EXPECT_NE(fault("{\n\n\"session\": oops}").find("line 3"), std::string::npos);
  auto absent = Config::load(scratch_ / "absent.json");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code(), errc::invalid_config);
  EXPECT_NE(absent.error().detail().find("absent.json"), std::string::npos);
}

TEST_F(ConfigFile, CommentsAndTrailingCommasAreTaken) {
  Config config = load(
                      "// ours\n{ /* lanes */ \"lanes\": {\"vpn\": {\"mtu\": 1400,},},\n"
                      "  \"client_api\": {\"public\": [\"198.51.100.7\", \"198.51.100.7:80\"]}, // end\n}\n")
                      .value();
  EXPECT_EQ(config.lanes.vpn.mtu, 1400);
  EXPECT_EQ(config.client_api.publics.size(), 2U);
  EXPECT_EQ(config.diff(Config()), (std::vector<std::string>{"client_api.public", "lanes.vpn.mtu"}));
}

TEST_F(ConfigFile, ShowReadsBack) {
  Config config;
  ASSERT_TRUE(config.set("endpoint.host", "vpn.example.org"));
  ASSERT_TRUE(config.set("client_api.public", "[\"198.51.100.7\"]"));
  ASSERT_TRUE(config.set("lanes.tor.pool6", "fd00:1::/64"));
  ASSERT_TRUE(config.set("client_api.trust_forwarded_for", "false"));
  ASSERT_TRUE(config.set("auth.issuer", "\"quoted \\\" and \\\\ ü\""));
  Config back = load(config.show()).value();
  EXPECT_TRUE(back.diff(config).empty());
  EXPECT_EQ(back.show(), config.show());
  EXPECT_EQ(back.auth.issuer, "quoted \" and \\ ü");
  EXPECT_TRUE(load(Config().show()).value().diff(Config()).empty());
}

TEST(Config, EnvironmentIsMerged) {
  const char* environment[] = {"HOME=/root",
                               "TORNADO_SESSION__GRACE=120",
                               "TORNADO_LANES__VPN__POOL=10.20.0.0/16",
                               "TORNADO_LANES__VPN__LISTEN_PORT=443",
                               "TORNADO_CONFIG=/etc/x",
                               "TORNADO_",
                               "TORNADO_AUTH__ISSUER=a=b",
                               "tornado_session__grace=1",
                               nullptr};
  Config config;
  ASSERT_TRUE(config.merge_environment(environment));
  EXPECT_EQ(config.session.grace, 120);
  EXPECT_EQ(config.lanes.vpn.pool, "10.20.0.0/16");
  EXPECT_EQ(config.lanes.vpn.listen_port, 443);
  EXPECT_EQ(config.auth.issuer, "a=b");
  EXPECT_TRUE(config.merge_environment(nullptr));
  const char* wrong[] = {"TORNADO_SESSION__GRASE=1", nullptr};
  auto refused = config.merge_environment(wrong);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().detail().starts_with("session.grase:")) << refused.error().detail();
}

TEST(Config, AFailedSetChangesNothing) {
  Config config;
  for (auto [key, value] : {std::pair("session.grace", "x"), std::pair("client_api.public", "[\"1.2.3.4\", 7]"),
                            std::pair("no.such", "1"), std::pair("", "1"), std::pair("session", "1")})
    EXPECT_FALSE(config.set(key, value)) << key;
  EXPECT_TRUE(config.diff(Config()).empty());
}

// Found by config_fuzz: what `show` printed could not be read back.
TEST(Config, TextIsUtf8) {
  EXPECT_TRUE(complaint("auth.issuer", "\xff\xfe").starts_with("auth.issuer:"));
  Config config;
  ASSERT_TRUE(config.set("auth.issuer", "\x01 \t \x7f \xc3\xbc"));
  Config back;
  ASSERT_TRUE(back.set("", config.show()));
  EXPECT_TRUE(back.diff(config).empty());
}

TEST(Config, IdleTtlAndQuarantineAreCheckedAgainstOthers) {
  Config config;
  ASSERT_TRUE(config.set("session.reconcile_interval", "600"));
  auto checked = config.check();
  ASSERT_FALSE(checked) << "I-08: the quarantine exceeds two reconcile periods";
  EXPECT_TRUE(checked.error().detail().starts_with("ipam.quarantine:"));
  EXPECT_TRUE(config.set("ipam.quarantine", "1200"));
  EXPECT_TRUE(config.check());
}

TEST(Config, TorIsCheckedBeforeItReachesATorrc) {
  EXPECT_NE(complaint("tor.options", R"(["ControlPort 9051"])").find("ControlPort"), std::string::npos);
  EXPECT_NE(complaint("tor.options", R"(["MaxCircuitDirtiness 20 minutes"])").find("MaxCircuitDirtiness"),
            std::string::npos);
  EXPECT_NE(complaint("tor.trans_port", "4605").find("client_api.listen"), std::string::npos);
  EXPECT_NE(complaint("tor.page_port", "9040").find("tor.trans_port"), std::string::npos);
  Config config;
  EXPECT_NE(complaint("tor.options", R"(["MaxCircuitDirtiness 2 HOURS"])").find("7200"), std::string::npos);
  EXPECT_TRUE(complaint("tor.options", R"(["MaxCircuitDirtiness 2 fortnights"])").starts_with("tor.options:"));
  ASSERT_TRUE(config.set("tor.options", R"(["MaxCircuitDirtiness 20 minutes"])"));
  ASSERT_TRUE(config.set("ipam.quarantine", "1260"));
  EXPECT_TRUE(config.check());
}

TEST(Upstreams, FirstUsableServerOfEachFamily) {
  auto found = Upstreams::parse(
      "# nameserver 9.9.9.9\n;nameserver 9.9.9.9\nsearch example.org\nnameserver 127.0.0.53\nnameserver\t192.0.2.1 # "
      "x\n"
      "nameserver 192.0.2.2\nnameserver ::1\nnameserver 2001:db8::1\nnameserver 2001:db8::2\n");
  EXPECT_EQ(found.v4, Endpoint(Address::parse("192.0.2.1").value(), 53));
  EXPECT_EQ(found.v6, Endpoint(Address::parse("2001:db8::1").value(), 53));
}

// I-23: never a loopback address.
TEST(Upstreams, NothingUsable) {
  for (const char* text :
       {"", "\n\n", "nameserver", "nameserver \n", "nameserver 127.0.0.1\nnameserver 127.9.9.9\nnameserver ::1\n",
        "nameserver 0.0.0.0\nnameserver ::\n", "nameserver x\nnameserver 1.2.3\nnameserver 1.2.3.4.5\n",
        "nameservers 192.0.2.1\n", "nameserver192.0.2.1\n", "nameserver 192.0.2.1:53\n"}) {
    auto found = Upstreams::parse(text);
    EXPECT_FALSE(found.v4 || found.v6) << text;
  }
  EXPECT_EQ(Upstreams::parse("nameserver 192.0.2.1").v4->address.str(), "192.0.2.1") << "no newline at the end";
  EXPECT_EQ(Upstreams::parse("nameserver 192.0.2.1\r\n").v4->address.str(), "192.0.2.1");
  EXPECT_TRUE(Upstreams::parse("nameserver fe80::1%eth0\n").v6.has_value());
}
