#include <gtest/gtest.h>

#include "api/operations.hpp"
#include "api/rpc_codec.hpp"
#include "base/json.hpp"

using namespace tornado;
namespace json = boost::json;

namespace {

struct Refusal {
  errc code = errc::internal;
  json::value id;
};

Refusal refusal(std::string_view line) {
  Refusal out;
  auto parsed = parse_rpc_request(line, out.id);
  EXPECT_FALSE(parsed) << line;
  if (!parsed) out.code = parsed.error().code();
  return out;
}

}  // namespace

TEST(RpcCodec, RequestsAreRead) {
  json::value id;
  auto request = parse_rpc_request(R"({"jsonrpc":"2.0","id":7,"method":"user.add","params":{"name":"a"}})", id).value();
  EXPECT_EQ(request.method, "user.add");
  EXPECT_EQ(request.id, 7);
  EXPECT_EQ(request.params.at("name"), "a");
  EXPECT_TRUE(parse_rpc_request(R"({"jsonrpc":"2.0","method":"x"})", id).value().params.empty());
  EXPECT_TRUE(id.is_null());
  EXPECT_TRUE(parse_rpc_request(R"({"jsonrpc":"2.0","method":"x","params":null,"id":"s"})", id));
  EXPECT_EQ(id, "s");
  std::string line = rpc_request(9, "status", json::object());
  EXPECT_EQ(parse_rpc_request(line, id).value().method, "status");
  EXPECT_EQ(id, 9);
}

TEST(RpcCodec, BatchesAndMalformedRequestsAreRefused) {
  EXPECT_EQ(refusal(R"([{"jsonrpc":"2.0","id":1,"method":"x"}])").code, errc::invalid_argument);
  for (const char* text :
       {"null", "1", "\"x\"", "{}", R"({"method":"x"})", R"({"jsonrpc":"1.0","method":"x"})",
        R"({"jsonrpc":2.0,"method":"x"})", R"({"jsonrpc":"2.0"})", R"({"jsonrpc":"2.0","method":1})",
        R"({"jsonrpc":"2.0","method":"x","params":[]})", R"({"jsonrpc":"2.0","method":"x","params":"p"})"})
    EXPECT_EQ(refusal(text).code, errc::invalid_argument) << text;
  for (const char* text : {"", " ", "{", "{\"a\":}", "nul", "{}x", "{\"a\":\"\xff\"}", "\x01", "{'a':1}", "{\"a\":1,}"})
    EXPECT_EQ(refusal(text).code, errc::protocol_error) << text;
  std::string deep = R"({"jsonrpc":"2.0","method":"x","params":{"a":)" + std::string(50, '[');
  EXPECT_EQ(refusal(deep).code, errc::protocol_error);
  EXPECT_EQ(refusal(std::string(1'000'000, '[')).code, errc::protocol_error);
}

TEST(RpcCodec, ErrorsCarryTheIdWhereItCanBeTold) {
  EXPECT_EQ(refusal(R"({"id":5,"method":"x"})").id, 5);
  EXPECT_EQ(refusal(R"({"id":"a","jsonrpc":"2.0"})").id, "a");
  EXPECT_TRUE(refusal(R"({"id":{"a":1},"method":"x"})").id.is_null());
  EXPECT_TRUE(refusal(R"({"id":5,)").id.is_null());
}

TEST(RpcCodec, EveryTruncationIsRefused) {
  std::string line = R"({"jsonrpc":"2.0","id":1,"method":"x","params":{"a":["b",1,null]}})";
  for (std::size_t size = 0; size < line.size(); ++size)
    EXPECT_EQ(refusal(line.substr(0, size)).code, errc::protocol_error) << size;
}

TEST(RpcCodec, AnswersAndErrorsRoundTrip) {
  json::value result = {{"users", {1, 2}}};
  EXPECT_EQ(parse_rpc_answer(rpc_result(1, result)).value(), result);
  EXPECT_TRUE(rpc_result(1, nullptr).ends_with('\n'));
  for (errc code : {errc::not_found, errc::overloaded, errc::invalid_argument, errc::disk_full, errc::unimplemented}) {
    auto back = parse_rpc_answer(rpc_error(1, Error(code, "line one\nline two")));
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().code(), code);
    EXPECT_EQ(back.error().detail(), "line one\nline two");
    std::string line = rpc_error(1, Error(code, "a\nb"));
    EXPECT_EQ(line.find('\n'), line.size() - 1) << "an answer is one line";
  }
  for (const char* bad : {"", "[]", "{}", R"({"error":1})", R"({"error":null})"})
    EXPECT_EQ(parse_rpc_answer(bad).error().code(), errc::protocol_error) << bad;
  EXPECT_EQ(parse_rpc_answer(R"({"error":{"code":-32000,"data":{"code":"nonsense"}}})").error().code(), errc::internal);
}

TEST(LineCutter, LinesInAnyPieces) {
  std::string stream = "one\n\ntwo\nthree\npart";
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    LineCutter cutter(16);
    std::vector<std::string> lines;
    for (auto piece : {stream.substr(0, cut), stream.substr(cut)}) {
      ASSERT_TRUE(cutter.feed(piece));
      while (auto line = cutter.next()) lines.push_back(*line);
    }
    EXPECT_EQ(lines, (std::vector<std::string>{"one", "", "two", "three"})) << cut;
    EXPECT_TRUE(cutter.partial());
  }
}

TEST(LineCutter, OversizeLinesAreRefusedWithOrWithoutAnEnd) {
  LineCutter open(8);
  EXPECT_TRUE(open.feed("12345678"));
  EXPECT_EQ(open.feed("9").error().code(), errc::too_large);
  LineCutter closed(8);
  auto fed = closed.feed("123456789\nrest");
  bool refused = !fed;
  while (auto line = closed.next()) refused = refused || line->size() <= 8;
  EXPECT_TRUE(refused) << "a line longer than the limit came out";
}

TEST(CheckArguments, NamesWhatIsWrong) {
  const Operation* add = find_operation("user.add");
  ASSERT_NE(add, nullptr);
  EXPECT_EQ(find_operation("user.ad"), nullptr);
  EXPECT_EQ(find_operation(""), nullptr);
  auto fault = [&](json::object values) {
    auto checked = check_arguments(*add, values);
    EXPECT_FALSE(checked) << to_json(values);
    return checked ? std::string() : checked.error().detail();
  };
  EXPECT_TRUE(fault({{"nonsense", 1}}).starts_with("nonsense:"));
  for (const auto& parameter : add->parameters) {
    if (!parameter.required) continue;
    std::string name(parameter.name);
    EXPECT_FALSE(fault({}).empty());
    EXPECT_TRUE(fault({{name, json::array()}}).starts_with(name + ":"));
    EXPECT_TRUE(fault({{name, std::string(5000, 'x')}}).starts_with(name + ":"));
  }
}

TEST(CheckArguments, TheTableIsSound) {
  std::set<std::string_view> names;
  for (const Operation& operation : operations()) {
    EXPECT_TRUE(names.insert(operation.name).second) << operation.name;
    EXPECT_NE(operation.handler, nullptr) << operation.name;
    EXPECT_FALSE(operation.summary.empty()) << operation.name;
    std::set<std::string_view> parameters;
    for (const auto& parameter : operation.parameters)
      EXPECT_TRUE(parameters.insert(parameter.name).second) << operation.name << " " << parameter.name;
  }
}
