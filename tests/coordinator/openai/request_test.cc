// JSON bodies → the front door's messages: each field, each wrong type, each bound.
#include "coordinator/openai/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/openai/errors.h"

namespace tessera::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kMessages[] = R"("messages":[{"role":"user","content":"hi"}])";

absl::StatusOr<OpenAiRequest> Chat(const std::string& fields) {
  return ParseChatCompletion(absl::StrCat("{", kMessages, fields.empty() ? "" : ",", fields, "}"),
                             {.request_id = "r", .created = 1});
}
absl::StatusOr<OpenAiRequest> Complete(const std::string& fields) {
  return ParseCompletion(absl::StrCat("{\"prompt\":\"hi\"", fields.empty() ? "" : ",", fields, "}"),
                         {.request_id = "r", .created = 1});
}

// The error object's "param" and message.
void ExpectRefused(const absl::Status& status, const std::string& param) {
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(ErrorObject(status), HasSubstr(absl::StrCat("\"param\":\"", param, "\"")));
}

TEST(OpenAiRequestTest, EverySamplingFieldArrives) {
  auto request = Complete(R"("max_tokens":5,"temperature":0.5,"top_k":40,"top_p":0.9,"min_p":0.05,
      "seed":42,"stop":["a","b"],"ignore_eos":true,"logprobs":3,"repetition_penalty":1.1,
      "presence_penalty":0.1,"frequency_penalty":-0.2,"logit_bias":{"5":-100,"7":1.5},
      "stop_token_ids":[1,2],"min_tokens":2,"bad_words":["x"],"n":2,"prompt_logprobs":1,
      "priority":-3,"model":"m","request_id":"id","add_special_tokens":false,"user":"u",
      "guided_regex":"a+")");
  ASSERT_TRUE(request.ok()) << request.status();
  const v1::GenerateRequest& one = request->prompts.at(0);
  EXPECT_EQ(one.text(), "hi");
  EXPECT_EQ(one.model(), "m");
  EXPECT_EQ(one.request_id(), "id");
  EXPECT_EQ(one.priority(), -3);
  EXPECT_TRUE(one.has_add_special_tokens() && !one.add_special_tokens());
  const v1::SamplingOptions& s = one.sampling();
  EXPECT_EQ(s.max_tokens(), 5);
  EXPECT_FLOAT_EQ(s.temperature(), 0.5F);
  EXPECT_EQ(s.top_k(), 40);
  EXPECT_FLOAT_EQ(s.top_p(), 0.9F);
  EXPECT_FLOAT_EQ(s.min_p(), 0.05F);
  EXPECT_EQ(s.seed(), 42u);
  EXPECT_THAT(s.stop(), ElementsAre("a", "b"));
  EXPECT_TRUE(s.ignore_eos());
  EXPECT_EQ(s.logprobs(), 3);
  EXPECT_FLOAT_EQ(s.repetition_penalty(), 1.1F);
  EXPECT_FLOAT_EQ(s.presence_penalty(), 0.1F);
  EXPECT_FLOAT_EQ(s.frequency_penalty(), -0.2F);
  EXPECT_EQ(s.logit_bias().at(5), -100);
  EXPECT_EQ(s.logit_bias().at(7), 1.5F);
  EXPECT_THAT(s.stop_token_ids(), ElementsAre(1, 2));
  EXPECT_EQ(s.min_tokens(), 2);
  EXPECT_THAT(s.bad_words(), ElementsAre("x"));
  EXPECT_EQ(s.n(), 2);
  EXPECT_EQ(s.prompt_logprobs(), 1);
  EXPECT_EQ(s.structured().regex(), "a+");
  EXPECT_EQ(request->style.id, "cmpl-id");
  EXPECT_EQ(request->style.n, 2);
}

TEST(OpenAiRequestTest, NullAndUnknownFieldsAreAbsent) {
  auto request = Chat(R"("temperature":null,"stop":null,"n":null,"tools":null,"response_format":null,
      "logit_bias":null,"stream":null,"stream_options":null,"max_tokens":null,"store":false,
      "metadata":{"a":1},"service_tier":"auto","whatever":[1,{"x":[]}])");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->chat->sampling().ByteSizeLong(), 0u);
}

TEST(OpenAiRequestTest, DefaultsAreOpenAis) {
  EXPECT_EQ(Complete("")->prompts[0].sampling().max_tokens(), 16);
  EXPECT_FALSE(Chat("")->chat->sampling().has_max_tokens());
  EXPECT_EQ(Chat("\"model\":\"default\"")->chat->model(), "");
  EXPECT_EQ(Chat("\"max_tokens\":5,\"max_completion_tokens\":7")->chat->sampling().max_tokens(), 7);
  EXPECT_EQ(Complete("\"top_k\":3.0")->prompts[0].sampling().top_k(), 3);
  EXPECT_EQ(Complete("\"seed\":18446744073709551615")->prompts[0].sampling().seed(), ~uint64_t{0});
  EXPECT_EQ(Complete("\"seed\":-1")->prompts[0].sampling().seed(), ~uint64_t{0});
  EXPECT_FLOAT_EQ(Complete("\"temperature\":1,\"temperature\":2")->prompts[0].sampling().temperature(), 2);
}

TEST(OpenAiRequestTest, EveryFieldRefusesEveryWrongType) {
  const std::vector<std::string> values = {"true", "\"text\"", "7", "1.5", "[[]]", "{\"a\":{}}"};
  struct Field {
    const char* name;
    std::vector<size_t> right;  // indices of values
  };
  const Field both[] = {
      {"model", {1}},           {"request_id", {1}},       {"priority", {2}},
      {"stream", {0}},          {"stream_options", {}},    {"temperature", {2, 3}},
      {"top_k", {2}},           {"top_p", {2, 3}},         {"min_p", {2, 3}},
      {"seed", {2}},            {"ignore_eos", {0}},       {"repetition_penalty", {2, 3}},
      {"presence_penalty", {2, 3}}, {"frequency_penalty", {2, 3}}, {"min_tokens", {2}},
      {"n", {2}},               {"prompt_logprobs", {2}},  {"stop", {1}},
      {"stop_token_ids", {}},   {"bad_words", {}},         {"logit_bias", {}},
      {"guided_regex", {1}},    {"guided_choice", {}},     {"max_tokens", {2}},
      {"structured_outputs", {5}}, {"response_format", {}}, {"guided_json", {0, 1, 5}},
  };
  for (const Field& field : both) {
    for (size_t i = 0; i < values.size(); ++i) {
      const bool right = std::count(field.right.begin(), field.right.end(), i) > 0;
      const std::string fields = absl::StrCat("\"", field.name, "\":", values[i]);
      SCOPED_TRACE(fields);
      for (const auto& request : {Chat(fields), Complete(fields)}) {
        EXPECT_EQ(request.ok(), right) << request.status();
        if (request.ok()) continue;
        EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
        EXPECT_THAT(ErrorObject(request.status()), HasSubstr(absl::StrCat("\"param\":\"", field.name)));
      }
    }
  }
}

TEST(OpenAiRequestTest, EveryNumberRefusesWhatDoesNotFit) {
  for (const char* name : {"n", "top_k", "max_tokens", "min_tokens", "prompt_logprobs", "priority"}) {
    for (const char* value : {"2147483648", "-2147483649", "1e10", "18446744073709551615", "0.5"}) {
      SCOPED_TRACE(absl::StrCat(name, " ", value));
      ExpectRefused(Complete(absl::StrCat("\"", name, "\":", value)).status(), name);
    }
  }
  for (const char* name : {"temperature", "top_p", "min_p", "repetition_penalty"}) {
    ExpectRefused(Complete(absl::StrCat("\"", name, "\":1e300")).status(), name);
  }
  for (const char* value : {"NaN", "Infinity", "-Infinity", "1e400", "+1", "01", ".5"}) {
    const absl::Status status = Complete(absl::StrCat("\"temperature\":", value)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << value;
  }
  ExpectRefused(Complete("\"n\":1000000").status(), "n");
}

TEST(OpenAiRequestTest, PromptsComeInFourShapes) {
  const auto parse = [](const std::string& prompt) {
    return ParseCompletion(absl::StrCat("{\"prompt\":", prompt, ",\"n\":2}"), {.request_id = "r"});
  };
  EXPECT_EQ(parse("\"a\"")->prompts[0].text(), "a");
  EXPECT_EQ(parse("\"a\"")->prompts[0].request_id(), "r");
  auto two = parse("[\"a\",\"b\"]");
  ASSERT_EQ(two->prompts.size(), 2u);
  EXPECT_EQ(two->prompts[1].text(), "b");
  EXPECT_EQ(two->prompts[1].request_id(), "r-1");
  EXPECT_EQ(two->style.prompts, 2);
  EXPECT_THAT(parse("[1,2,3]")->prompts[0].token_ids().ids(), ElementsAre(1, 2, 3));
  EXPECT_THAT(parse("[[1,2],[3]]")->prompts[1].token_ids().ids(), ElementsAre(3));
  for (const auto& [prompt, param] : std::vector<std::pair<std::string, std::string>>{
           {"null", "prompt"}, {"7", "prompt"}, {"{}", "prompt"}, {"[]", "prompt"},
           {"[\"a\",1]", "prompt[1]"}, {"[1,\"a\"]", "prompt[1]"}, {"[1.5]", "prompt[0]"},
           {"[[]]", "prompt[0]"}, {"[[1],\"a\"]", "prompt[1]"}, {"[[\"a\"]]", "prompt[0][0]"},
           {"[99999999999]", "prompt[0]"}, {"[null]", "prompt[0]"}, {"[true]", "prompt[0]"}}) {
    SCOPED_TRACE(prompt);
    ExpectRefused(parse(prompt).status(), param);
  }
  std::string many = "[\"a\"";
  for (int i = 0; i < kMaxPrompts; ++i) many += ",\"a\"";
  ExpectRefused(parse(many + "]").status(), "prompt");
}

TEST(OpenAiRequestTest, MessagesComeAsTextOrPartsWithToolsAndNames) {
  auto request = ParseChatCompletion(
      R"({"messages":[{"role":"developer","content":"be brief"},
          {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"Ann"},
          {"role":"assistant","content":null,"tool_calls":[{"id":"c1"}]},
          {"role":"tool","content":"42","tool_call_id":"c1"}],
          "tools":[{"type":"function","function":{"name":"f"}}],
          "chat_template_kwargs":{"enable_thinking":false}})", {.request_id = "r"});
  ASSERT_TRUE(request.ok()) << request.status();
  const v1::ChatRequest& chat = *request->chat;
  EXPECT_EQ(chat.messages(0).role(), "system");
  EXPECT_EQ(chat.messages(1).content(), "ab");
  EXPECT_EQ(chat.messages(1).name(), "Ann");
  EXPECT_EQ(chat.messages(2).tool_calls_json(), R"([{"id":"c1"}])");
  EXPECT_EQ(chat.messages(3).tool_call_id(), "c1");
  EXPECT_EQ(chat.tools_json(0), R"({"function":{"name":"f"},"type":"function"})");
  EXPECT_EQ(chat.chat_template_kwargs_json(), R"({"enable_thinking":false})");
  EXPECT_EQ(Chat(R"("tools":[{"type":"function","function":{}}],"tool_choice":"none")")->chat->tools_json_size(), 0);
}

TEST(OpenAiRequestTest, BadMessagesAreNamed) {
  const std::pair<std::string, std::string> table[] = {
      {R"({})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":["hi"]})", "messages[0]"},
      {R"({"messages":[{"content":"hi"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"robot","content":"hi"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":["a"]}]})", "messages[0].content[0]"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"text","text":1}]}]})",
       "messages[0].content[0].text"},
      {R"({"messages":[{"role":"user","content":"a"}],"tools":[5]})", "tools[0]"},
      {R"({"messages":[{"role":"user","content":"a"}],"tool_choice":"required"})", "tool_choice"},
      {R"({"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":[]})",
       "chat_template_kwargs"},
      {R"({"messages":[{"role":"user","content":"a"}],"functions":[]})", "functions"},
      {R"({"messages":[{"role":"user","content":"a"}],"top_logprobs":3})", "top_logprobs"},
      {R"({"messages":[{"role":"user","content":"a"}],"logprobs":3})", "logprobs"},
      {R"({"messages":[{"role":"user","content":"a"}],"stream_options":{}})", "stream_options"},
  };
  for (const auto& [body, param] : table) {
    SCOPED_TRACE(body);
    ExpectRefused(ParseChatCompletion(body, {}).status(), param);
  }
}

TEST(OpenAiRequestTest, StructuredOutputHasThreeSpellingsAndOneMeaning) {
  const auto structured = [](const std::string& fields) { return Chat(fields)->chat->sampling().structured(); };
  const std::string schema = R"({"type":"object"})";
  EXPECT_EQ(structured(absl::StrCat(R"("response_format":{"type":"json_schema","json_schema":{"name":"x","schema":)", schema, "}}")).json_schema(), schema);
  EXPECT_EQ(structured(absl::StrCat("\"guided_json\":", schema)).json_schema(), schema);
  EXPECT_EQ(structured(absl::StrCat("\"structured_outputs\":{\"json\":", schema, "}")).json_schema(), schema);
  EXPECT_TRUE(structured(R"("response_format":{"type":"json_object"})").json_object());
  EXPECT_FALSE(Chat(R"("response_format":{"type":"text"})")->chat->sampling().has_structured());
  EXPECT_EQ(structured(R"("guided_regex":"a|b")").regex(), "a|b");
  EXPECT_THAT(structured(R"("guided_choice":["x","y"])").choice().values(), ElementsAre("x", "y"));
  ExpectRefused(Chat(R"("guided_regex":"a","guided_json":{})").status(), "guided_regex");
  ExpectRefused(Chat(R"("response_format":{"type":"xml"})").status(), "response_format.type");
  ExpectRefused(Chat(R"("response_format":{"type":"json_schema"})").status(), "response_format.json_schema");
  ExpectRefused(Chat(R"("guided_grammar":"root ::= x")").status(), "guided_grammar");
}

TEST(OpenAiRequestTest, WhatIsNotSupportedIsRefusedUnlessItAsksForNothing) {
  for (const char* fields : {"\"suffix\":\"x\"", "\"best_of\":2", "\"use_beam_search\":true",
                             "\"skip_special_tokens\":false", "\"include_stop_str_in_output\":true"}) {
    EXPECT_FALSE(Complete(fields).ok()) << fields;
  }
  for (const char* fields : {"\"suffix\":\"\"", "\"best_of\":1", "\"best_of\":2,\"n\":2",
                             "\"use_beam_search\":false", "\"skip_special_tokens\":true"}) {
    EXPECT_TRUE(Complete(fields).ok()) << fields;
  }
}

TEST(OpenAiRequestTest, BrokenBodiesSayWhere) {
  for (const std::string& body :
       {std::string(""), std::string("{"), std::string("[]"), std::string("null"), std::string("\"x\""),
        std::string("{\"prompt\":\"\xff\"}"), std::string("{\"prompt\":\"\xed\xa0\x80\"}"),
        std::string("{\"prompt\":\"a\"} x"), std::string(1000, '['), std::string("{\"a\":") + std::string(100000, '['),
        std::string("{\"prompt\":\"a\0b\"}", 16)}) {
    for (const auto& status : {ParseCompletion(body, {}).status(), ParseChatCompletion(body, {}).status(),
                               ParseTokenize(body).status(), ParseDetokenize(body).status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body.substr(0, 40);
      EXPECT_THAT(std::string(status.message()), HasSubstr("the body"));
    }
  }
  std::string nested = "{\"prompt\":\"x\",\"extra\":";
  nested += std::string(63, '[') + std::string(63, ']') + "}";
  EXPECT_TRUE(ParseCompletion(nested, {}).ok());
  std::string wide = "{\"prompt\":[1";
  for (int i = 0; i < kMaxPrompts * 8; ++i) wide += ",1";
  EXPECT_TRUE(ParseCompletion(wide + "]}", {}).ok());
}

TEST(OpenAiRequestTest, LongListsAreRefusedByTheirLength) {
  std::string stops = "\"stop\":[\"a\"";
  for (int i = 0; i < 100'000; ++i) stops += ",\"a\"";
  ExpectRefused(Complete(stops + "]").status(), "stop");
  std::string bias = "\"logit_bias\":{\"0\":1";
  for (int i = 1; i < 100'000; ++i) absl::StrAppend(&bias, ",\"", i, "\":1");
  ExpectRefused(Complete(bias + "}").status(), "logit_bias");
  // Many prompts times much sampling.
  std::string prompts = "{\"prompt\":[\"a\"";
  for (int i = 1; i < kMaxPrompts; ++i) prompts += ",\"a\"";
  absl::StrAppend(&prompts, "],\"guided_regex\":\"", std::string(1 << 20, 'a'), "\"}");
  ExpectRefused(ParseCompletion(prompts, {}).status(), "prompt");
}

// Before a tree of them is built, by the field where they are.
TEST(OpenAiRequestTest, TooManyMembersAreRefusedWhereTheyAre) {
  std::string messages;
  for (int i = 0; i < 40'000; ++i) messages += R"({"role":"user","content":"a:,{"},)";
  messages.pop_back();
  ExpectRefused(ParseChatCompletion(absl::StrCat(R"({"n":1,"messages":[)", messages, "]}"),
                                    {.request_id = "r", .created = 1})
                    .status(),
                "messages");
  std::string members;
  for (int i = 0; i < 70'000; ++i) absl::StrAppend(&members, "\"", i, "\":1,");
  members.pop_back();
  ExpectRefused(Complete(absl::StrCat("\"logit_bias\":{", members, "}")).status(), "logit_bias");
  ExpectRefused(Complete(absl::StrCat(R"("response_format":{"type":"json_schema","json_schema":
      {"name":"s","schema":{"properties":{)",
                                      members, "}}}}"))
                    .status(),
                "response_format.json_schema.schema");
  EXPECT_THAT(std::string(Complete(members).status().message()),
              HasSubstr("the body has more than"));
  EXPECT_THAT(std::string(Complete(absl::StrCat("\"a b\":{", members, "}")).status().message()),
              HasSubstr("the body has more than"));
  // As many as the longest conversation has are read.
  EXPECT_TRUE(Complete("\"user\":{" + members.substr(0, members.find("\"50000\"") - 1) + "}").ok());
}

TEST(OpenAiRequestTest, EchoAsksForThePromptsLogprobs) {
  auto request = Complete("\"echo\":true,\"logprobs\":1,\"max_tokens\":0");
  EXPECT_EQ(request->prompts[0].sampling().prompt_logprobs(), 1);
  EXPECT_EQ(request->prompts[0].sampling().max_tokens(), 1);
  EXPECT_TRUE(request->style.echo && request->style.drop_output && !request->style.prompt_logprobs);
  EXPECT_FALSE(Chat("\"echo\":true").ok());
}

TEST(OpenAiRequestTest, TokenizeTakesAPromptOrMessages) {
  auto call = ParseTokenize(R"({"prompt":"a","add_special_tokens":false,"return_token_strs":true})");
  EXPECT_EQ(call->text.text(), "a");
  EXPECT_TRUE(call->return_token_strs && !call->text.add_special_tokens());
  EXPECT_EQ(ParseTokenize(absl::StrCat("{", kMessages, "}"))->chat->messages_size(), 1);
  ExpectRefused(ParseTokenize("{}").status(), "prompt");
  ExpectRefused(ParseDetokenize("{}").status(), "tokens");
  ExpectRefused(ParseDetokenize(R"({"tokens":["a"]})").status(), "tokens[0]");
  EXPECT_THAT(ParseDetokenize(R"({"tokens":[5,6]})")->ids(), ElementsAre(5, 6));
}

}  // namespace
}  // namespace tessera::coordinator
