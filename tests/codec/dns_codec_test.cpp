#include "dns/dns_codec.hpp"

#include <gtest/gtest.h>

#include <set>

namespace tornado {
namespace {

using namespace std::string_literals;

Address address(std::string_view text) {
  return Address::parse(text).value();
}

std::string question(std::string_view name, std::uint16_t type = dns::type_a) {
  return dns::query(0x1234, name, type);
}

/// As resolvers of today ask: an OPT record with a padding option.
std::string with_edns(std::string query, char version = 0) {
  query[11] = 1;
  return query + "\0\0\x29\x04\xd0\0"s + version + "\0\0\0\x08\0\x0c\0\x04\0\0\0\0"s;
}

DnsQuery parsed(std::string_view bytes) {
  auto result = dns::parse_query(bytes);
  EXPECT_TRUE(result);
  return *result;
}

int code_of(std::string_view answer) {
  return answer[3] & 15;
}

TEST(DnsCodec, ReadsAQuestion) {
  DnsQuery query = parsed(question("WWW.Example.org"));
  EXPECT_EQ(query.problem, DnsCode::no_error);
  EXPECT_EQ(query.id, 0x1234);
  EXPECT_EQ(query.name, "www.example.org");
  EXPECT_EQ(query.type, dns::type_a);
  EXPECT_EQ(query.klass, dns::class_in);
  EXPECT_TRUE(query.recursion_desired);
  EXPECT_FALSE(query.edns);
  EXPECT_EQ(query.question, "\3WWW\7Example\3org\0\0\1\0\1"s);
}

TEST(DnsCodec, AnswersWithTheAddressesOfTheTypeAsked) {
  std::vector<Address> both{address("10.9.0.1"), address("fd00::1")};
  std::string bytes = dns::answer(parsed(question("Example.org")), both, 1);
  EXPECT_EQ(bytes, "\x12\x34\x81\x80\0\1\0\1\0\0\0\0\7Example\3org\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x0a\x09\0\1"s);
  auto v4 = dns::parse_answer(bytes);
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->id, 0x1234);
  EXPECT_EQ(v4->code, DnsCode::no_error);
  EXPECT_EQ(v4->name, "example.org");
  EXPECT_EQ(v4->addresses, std::vector<Address>{address("10.9.0.1")});
  auto v6 = dns::parse_answer(dns::answer(parsed(question("example.org", dns::type_aaaa)), both, 1));
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->addresses, std::vector<Address>{address("fd00::1")});
}

TEST(DnsCodec, OtherTypesExistWithoutRecords) {
  for (std::uint16_t type : {2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255}) {
    auto answer = dns::parse_answer(dns::answer(parsed(question("example.org", type)), {address("10.9.0.1")}, 1));
    ASSERT_TRUE(answer) << type;
    EXPECT_EQ(answer->code, DnsCode::no_error) << type;
    EXPECT_TRUE(answer->addresses.empty()) << type;
  }
}

TEST(DnsCodec, AnswersStaySmall) {
  std::vector<Address> many(100, address("fd00::1"));
  std::string query = question(std::string(63, 'a') + "." + std::string(63, 'b'), dns::type_aaaa);
  EXPECT_EQ(dns::answer(parsed(query), many, 1).size(), query.size() + dns::most_addresses * 28);
  EXPECT_LE(dns::answer(parsed(with_edns(query)), many, 1).size(), 512U);
}

TEST(DnsCodec, EdnsIsAnsweredInKind) {
  DnsQuery query = parsed(with_edns(question("example.org")));
  EXPECT_EQ(query.problem, DnsCode::no_error);
  EXPECT_TRUE(query.edns);
  std::string bytes = dns::answer(query, {address("10.9.0.1")}, 1);
  EXPECT_TRUE(bytes.ends_with("\0\0\x29\x04\xd0\0\0\0\0\0\0"s));
  EXPECT_EQ(bytes.substr(10, 2), "\0\1"s);
  EXPECT_TRUE(dns::parse_answer(bytes));

  DnsQuery later = parsed(with_edns(question("example.org"), 1));
  EXPECT_EQ(later.problem, DnsCode::bad_version);
  std::string refused = dns::refuse(later, later.problem);
  EXPECT_TRUE(refused.ends_with("\0\0\x29\x04\xd0\1\0\0\0\0\0"s));
  EXPECT_EQ(code_of(refused), 0);
}

TEST(DnsCodec, ASecondOptRecordIsRefused) {
  std::string query = with_edns(question("example.org"));
  query[11] = 2;
  EXPECT_EQ(parsed(query + query.substr(question("example.org").size())).problem, DnsCode::form_error);
}

TEST(DnsCodec, OtherRecordsAfterTheQuestionAreNoHarm) {
  std::string query = question("example.org");
  query[11] = 1;
  EXPECT_EQ(parsed(query + "\xc0\x0c\0\x10\0\1\0\0\0\0\0\2\1x"s).problem, DnsCode::no_error);
}

TEST(DnsCodec, WhatMustNotBeAnswered) {
  for (std::string bytes : {std::string(), "\0\1\0\0\0\1\0\0\0\0\0"s, "\0\1\x80\0\0\1\0\0\0\0\0\0\0\0\1\0\1"s}) {
    auto result = dns::parse_query(bytes);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), errc::protocol_error);
  }
}

TEST(DnsCodec, WhatIsRefused) {
  std::string status = question("example.org");
  status[2] = 0x10;
  EXPECT_EQ(parsed(status).problem, DnsCode::not_implemented);
  std::string refused = dns::refuse(parsed(status), DnsCode::not_implemented);
  EXPECT_EQ(refused, "\x12\x34\x90\x84\0\0\0\0\0\0\0\0"s);

  std::string none = question("example.org"), two = none;
  none[5] = 0;
  two[5] = 2;
  std::string compressed = "\0\1\0\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"s;
  for (const std::string& bytes : {none, two, compressed, question("a") + "x"}) {
    DnsQuery query = parsed(bytes);
    EXPECT_EQ(query.problem, DnsCode::form_error);
    EXPECT_EQ(code_of(dns::refuse(query, query.problem)), 1);
  }
}

TEST(DnsCodec, QueriesTruncatedAtEveryLength) {
  const std::string whole = with_edns(question("www.example.org"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    auto result = dns::parse_query(std::string_view(whole).substr(0, size));
    EXPECT_EQ(result.has_value(), size >= 12) << size;
    if (!result) continue;
    EXPECT_EQ(result->problem, DnsCode::form_error) << size;
    EXPECT_EQ(code_of(dns::refuse(*result, result->problem)), 1) << size;
  }
}

TEST(DnsCodec, NamesThatLookAlikeAreNot) {
  std::set<std::string> names;
  for (std::string wire : {"\3a.b\0"s, "\1a\1b\0"s, "\2\\b\0"s, "\4\\092\0"s, "\2\0b\0"s})
    names.insert(parsed("\0\1\0\0\0\1\0\0\0\0\0\0"s + wire + "\0\1\0\1"s).name);
  EXPECT_EQ(names, (std::set<std::string>{"a\\046b", "a.b", "\\092b", "\\092092", "\\000b"}));
}

TEST(DnsCodec, WhatIsAName) {
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'a');
  EXPECT_EQ(parsed(question(longest)).name, longest);
  EXPECT_EQ(parsed(question("example.org.")).name, "example.org");
  EXPECT_EQ(question(longest).size(), 271U);
  for (std::string name : {""s, "."s, ".."s, "a..b"s, ".a"s, "a.."s, label + "a", longest + "a", longest + ".a"})
    EXPECT_EQ(question(name), "") << name;
  std::string too_long = "\0\1\0\0\0\1\0\0\0\0\0\0"s;
  for (int i = 0; i < 128; ++i) too_long += "\1a";
  EXPECT_EQ(parsed(too_long + "\0\0\1\0\1"s).problem, DnsCode::form_error);
}

/// An alias and two addresses, names compressed as servers do.
std::string compressed_answer() {
  return "\0\7\x81\x80\0\1\0\3\0\0\0\0"s + "\3www\7example\3org\0\0\1\0\1"s +
         "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\6\3cdn\xc0\x10"s + "\xc0\x2d\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x50"s +
         "\xc0\x2d\0\x1c\0\1\0\0\0\x3c\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"s;
}

TEST(DnsCodec, ReadsACompressedAnswer) {
  auto answer = dns::parse_answer(compressed_answer());
  ASSERT_TRUE(answer) << answer.error().detail();
  EXPECT_EQ(answer->name, "www.example.org");
  EXPECT_EQ(answer->addresses, (std::vector<Address>{address("192.0.2.80"), address("fd00::1")}));
}

TEST(DnsCodec, AnswersTruncatedAtEveryLength) {
  const std::string whole = compressed_answer();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    auto answer = dns::parse_answer(std::string_view(whole).substr(0, size));
    ASSERT_FALSE(answer) << size;
    EXPECT_EQ(answer.error().code(), errc::protocol_error) << size;
  }
}

TEST(DnsCodec, PointersThatLeadNowhere) {
  const std::string question = "\0\7\x81\x80\0\1\0\0\0\0\0\0"s, record = "\0\7\x81\x80\0\0\0\1\0\0\0\0"s;
  const std::string rest = "\0\1\0\1"s, data = "\0\0\0\x3c\0\4\1\2\3\4"s;
  for (std::string name : {"\xc0\x0c"s, "\xc0\x0e"s, "\xff\xff"s, "\xc0\x00"s, "\1a\xc0\x0c"s, "\1a\xc0\x0e"s, "\x40z"s,
                           "\x80z"s, "\xc0"s}) {
    for (const std::string& bytes : {question + name + rest, record + name + rest + data}) {
      auto answer = dns::parse_answer(bytes);
      ASSERT_FALSE(answer) << testing::PrintToString(name);
      EXPECT_EQ(answer.error().code(), errc::protocol_error);
    }
  }
  EXPECT_TRUE(dns::parse_answer(record + "\1a\0"s + rest + data));
}

TEST(DnsCodec, ManyNamesOfOneAnswerCostNoMoreThanTheirBytes) {
  std::string bytes = "\0\7\x81\x80\0\1\xff\xff\0\0\0\0"s + "\1a\0\0\1\0\1"s;
  for (int i = 0; i < 0xffff; ++i) bytes += "\1b\xc0\x0c\0\x10\0\1\0\0\0\x3c\0\0"s;
  EXPECT_TRUE(dns::parse_answer(bytes));
}

TEST(DnsCodec, ALongNameOfARecord) {
  const std::string head = "\0\7\x81\x80\0\0\0\1\0\0\0\0"s, rest = "\0\x10\0\1\0\0\0\x3c\0\0"s;
  std::string name;
  for (int i = 0; i < 127; ++i) name += "\1a";
  EXPECT_TRUE(dns::parse_answer(head + name + "\0"s + rest));
  EXPECT_FALSE(dns::parse_answer(head + name + "\1a\0"s + rest));
}

TEST(DnsCodec, RefusesAddressesOfTheWrongSize) {
  const std::string head = "\0\7\x81\x80\0\0\0\1\0\0\0\0\0"s;
  EXPECT_FALSE(dns::parse_answer(head + "\0\1\0\1\0\0\0\x3c\0\3\1\2\3"s));
  EXPECT_FALSE(dns::parse_answer(head + "\0\x1c\0\1\0\0\0\x3c\0\4\1\2\3\4"s));
  EXPECT_TRUE(dns::parse_answer(head + "\0\x10\0\1\0\0\0\x3c\0\3\1\2\3"s));
}

TEST(DnsCodec, TellsWhatAnAnswerSays) {
  for (DnsCode code : {DnsCode::server_failure, DnsCode::name_error, DnsCode::refused}) {
    auto answer = dns::parse_answer(dns::refuse(parsed(question("example.org")), code));
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->code, code);
    EXPECT_FALSE(answer->truncated);
  }
  std::string cut = dns::refuse(parsed(question("example.org")), DnsCode::no_error);
  cut[2] = static_cast<char>(cut[2] | 2);
  EXPECT_TRUE(dns::parse_answer(cut)->truncated);
  EXPECT_FALSE(dns::parse_answer(question("example.org")));
}

}  // namespace
}  // namespace tornado
