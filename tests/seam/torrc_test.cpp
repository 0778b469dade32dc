#include <gtest/gtest.h>

#include <stdexcept>

#include "tornado/tor_controller.hpp"

using namespace tornado;

namespace {

TEST(Torrc, OfAServiceLeavesTheProcessToItsUnitAndSaysWhichItIs) {
  TorOptions options;
  options.directory = "/x";
  options.service = "/run/y";
  auto one = torrc(options);
  ASSERT_TRUE(one);
  for (const char* name : {"DataDirectory", "ControlSocket", "Cookie", "RunAsDaemon", "Log "})
    EXPECT_EQ(one->find(name), one->npos) << name;
  EXPECT_NE(one->find("\nContactInfo tornado-"), one->npos);
  options.extra = {"MaxCircuitDirtiness 300"};
  auto other = torrc(options);
  ASSERT_TRUE(other);
  EXPECT_NE(one->substr(one->find("ContactInfo")), other->substr(other->find("ContactInfo")));
}

TEST(Torrc, RefusesWhatBelongsToTheGateway) {
  TorOptions options;
  options.directory = "/x";
  for (const char* line : {"SocksPort 9050", "ControlPort 9051", "ORPort 9001", "DataDirectory /tmp", "RunAsDaemon 1",
                           "ClientTransportPlugin x exec /bin/sh", "User root", "HiddenServiceDir /x", "%include /x",
                           "NoSuchOption 1", "TransPort 0.0.0.0:1", "AutomapHostsOnResolve 0", "MaxCircuitDirtiness",
                           "KeepalivePeriod 5\nSocksPort 1", "Log debug stdout", "__OwningControllerProcess 1"}) {
    options.extra = {line};
    auto text = torrc(options);
    ASSERT_FALSE(text) << line;
    EXPECT_EQ(text.error().code(), errc::invalid_config);
  }
  options.extra = {"NoSuchOption 1"};
  EXPECT_NE(torrc(options).error().detail().find("NoSuchOption"), std::string::npos);
  EXPECT_THROW(([&] {
                 Runtime runtime;
                 TorController tor(runtime, options);
               }()),
               std::invalid_argument);
}

TEST(Torrc, ChecksBridgesCountriesProxyAndLimit) {
  auto refused = [](auto change) {
    TorOptions options;
    options.directory = "/x";
    change(options);
    return !torrc(options).has_value();
  };
  EXPECT_TRUE(refused([](TorOptions& o) { o.bridges = {"nonsense"}; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.bridges = {"shadowsocks 192.0.2.1:443 x"}; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.bridges = {"192.0.2.1:443 A\nSocksPort 1"}; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.exit_countries = {"deu"}; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.excluded_countries = {"d}"}; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.proxy = "http://proxy:3128"; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.proxy = "socks5://proxy:0"; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.data_limit = "lots"; }));
  EXPECT_TRUE(refused([](TorOptions& o) { o.directory = "relative"; }));
  TorOptions good;
  good.directory = "/x";
  good.bridges = {"Bridge obfs4 192.0.2.1:443 0123456789ABCDEF0123456789ABCDEF01234567 cert=abc iat-mode=0"};
  good.exit_countries = {"de", "nl"};
  good.proxy = "socks5://127.0.0.1:1080";
  good.data_limit = "500 GBytes";
  good.extra = {"MaxCircuitDirtiness 20 minutes"};
  good.trans = {Endpoint::parse("10.9.0.1:9040").value()};
  good.names = {{"vpn.example.org", Address::parse("10.9.0.1").value()}};
  auto text = torrc(good);
  ASSERT_TRUE(text) << text.error().detail();
  for (const char* line : {"UseBridges 1\n", "ExitNodes {de},{nl}\nStrictNodes 1\n", "Socks5Proxy 127.0.0.1:1080\n",
                           "AccountingMax 500 GBytes\n", "TransPort 10.9.0.1:9040 IsolateClientAddr\n", "SocksPort 0\n",
                           "MapAddress vpn.example.org 10.9.0.1\n", "ClientTransportPlugin obfs4,meek_lite exec "})
    EXPECT_NE(text->find(line), text->npos) << line << *text;
  EXPECT_EQ(circuit_dirtiness(good).value(), Seconds(1200));
}

TEST(Torrc, ReadsATimeAsTorDoesOrRefusesIt) {
  auto read = [](const std::string& time) {
    TorOptions options;
    options.extra = {"maxcircuitdirtiness " + time};
    auto out = circuit_dirtiness(options);
    return out ? out->count() : -1;
  };
  // What `tor --dump-config full` makes of them.
  for (auto [time, seconds] : {std::pair("1 week", 604800), std::pair("2 HOURS", 7200), std::pair("1.5 hours", 5400),
                               std::pair("2hours", 7200), std::pair("2 Hours ", 7200), std::pair("1 month", 2592000),
                               std::pair("0", 10), std::pair("99999999", 2592000), std::pair("1 second", 10),
                               std::pair("3 days", 259200), std::pair("20 Minute", 1200), std::pair("900", 900)})
    EXPECT_EQ(read(time), seconds) << time;
  for (const char* time : {"\"3600\"", "3600 # x", "1 fortnight", "10 min", "0x10", "1e3", "-5", "+5", "1 sec", "s",
                           "18446744073709551617", "1 hours hours", "nan", "inf", "."})
    EXPECT_EQ(read(time), -1) << time;
}

TEST(Torrc, RefusesWhatTorWouldJoinToTheNextLineOrMisread) {
  auto complaint = [](auto change) {
    TorOptions options;
    options.directory = "/x";
    change(options);
    auto text = torrc(options);
    return text ? std::string() : text.error().detail();
  };
  for (const char* proxy :
       {"socks5://h:1080junk", "socks5://h:80\\", "socks5://h\\:80", "socks5://h:", "socks5://:80", "socks5://h:+80",
        "socks5://h#:80", "https://::1:80", "socks5://[::1:80", "socks5://h:65536"})
    EXPECT_TRUE(complaint([&](TorOptions& o) { o.proxy = proxy; }).starts_with("tor.proxy:")) << proxy;
  for (const char* proxy : {"socks5://proxy.example.org:1080", "https://192.0.2.1:3128", "socks5://[2001:db8::1]:1080"})
    EXPECT_EQ(complaint([&](TorOptions& o) { o.proxy = proxy; }), "") << proxy;
  for (const char* bridge : {"192.0.2.1:443 0123456789ABCDEF0123456789ABCDEF01234567\\",
                             "obfs4 192.0.2.1:443 F cert=a#b", "obfs4 192.0.2.1:443 F \"cert=a"})
    EXPECT_TRUE(complaint([&](TorOptions& o) { o.bridges = {bridge}; }).starts_with("tor.bridges:")) << bridge;
  auto obfs4 = [](TorOptions& o) {
    o.bridges = {"obfs4 192.0.2.1:443 F"};
    o.obfs4 = "/usr/bin/obfs4proxy\\";
  };
  EXPECT_TRUE(complaint(obfs4).starts_with("tor.obfs4:"));
  for (const char* line :
       {"NumEntryGuards 3\\", "NumEntryGuards 3 # of many", "ExitNodes \"{de}\"", "MaxCircuitDirtiness 1 fortnight"})
    EXPECT_TRUE(complaint([&](TorOptions& o) { o.extra = {line}; }).starts_with("tor.options:")) << line;
  EXPECT_NE(complaint([](TorOptions& o) { o.extra = {"MaxCircuitDirtiness 1 fortnight"}; }).find("MaxCircuitDirtiness"),
            std::string::npos);
}

}  // namespace
