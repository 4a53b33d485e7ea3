#include "coordinator/openai/sampling_fields.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/model/sampling_fields.h"

namespace tessera::coordinator {
namespace {

using model::SamplingField;
using model::SamplingKind;
using nlohmann::json;

void ReadLogitBias(JsonFields& fields, v1::SamplingOptions* options) {
  const json* bias = fields.Object("logit_bias");
  if (bias == nullptr) return;
  if (bias->size() > kMaxListItems) {
    return fields.Fail("logit_bias", absl::StrCat("has ", bias->size(), " ids; at most ",
                                                  kMaxListItems, " are read"));
  }
  for (const auto& [key, value] : bias->items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id)) {
      return fields.Fail("logit_bias", absl::StrCat("has the key ", json(key.substr(0, 64)).dump(
                                                        -1, ' ', true, json::error_handler_t::replace),
                                                    "; expected token ids"));
    }
    if (!value.is_number() || !std::isfinite(value.get<float>())) {
      return fields.Fail(absl::StrCat("logit_bias.", id),
                         absl::StrCat("is ", JsonTypeName(value), "; expected a number"));
    }
    (*options->mutable_logit_bias())[id] = value.get<float>();
  }
}

// Sets the one constraint that a request may have.
class StructuredReader {
 public:
  StructuredReader(JsonFields& fields, v1::SamplingOptions* options)
      : fields_(fields), options_(options) {}

  void ResponseFormat();
  void Guided();
  void StructuredOutputs();

 private:
  v1::StructuredOutput* Claim(absl::string_view field);
  void Schema(absl::string_view field, const json& schema);
  void Choice(absl::string_view field, std::vector<std::string> values);

  JsonFields& fields_;
  v1::SamplingOptions* const options_;
  std::string claimed_by_;
};

v1::StructuredOutput* StructuredReader::Claim(absl::string_view field) {
  if (!claimed_by_.empty()) {
    fields_.Fail(field, absl::StrCat("and ", claimed_by_, " exclude each other"));
  }
  claimed_by_ = std::string(field);
  return options_->mutable_structured();
}

void StructuredReader::Schema(absl::string_view field, const json& schema) {
  if (schema.is_string()) {
    Claim(field)->set_json_schema(schema.get<std::string>());
  } else if (schema.is_object() || schema.is_boolean()) {
    Claim(field)->set_json_schema(schema.dump());
  } else {
    fields_.Fail(field, absl::StrCat("is ", JsonTypeName(schema), "; expected a JSON schema"));
  }
}

void StructuredReader::Choice(absl::string_view field, std::vector<std::string> values) {
  auto* choice = Claim(field)->mutable_choice();
  for (std::string& value : values) choice->add_values(std::move(value));
}

void StructuredReader::ResponseFormat() {
  const json* format = fields_.Object("response_format");
  if (format == nullptr) return;
  JsonFields inner(*format, "response_format.");
  const std::string type = inner.String("type").value_or("");
  if (!inner.status().ok()) return fields_.Fail("response_format.type", "is not a string");
  if (type == "text") return;
  if (type == "json_object") return Claim("response_format")->set_json_object(true);
  if (type != "json_schema") {
    return fields_.Fail("response_format.type", "is unknown; expected text, json_object or json_schema");
  }
  const auto wrapper = format->find("json_schema");
  if (wrapper == format->end() || !wrapper->is_object()) {
    return fields_.Fail("response_format.json_schema", "is missing; expected {\"name\", \"schema\"}");
  }
  const auto schema = wrapper->find("schema");
  if (schema == wrapper->end() || !(schema->is_object() || schema->is_boolean())) {
    return fields_.Fail("response_format.json_schema.schema", "is missing; expected a JSON schema");
  }
  Schema("response_format", *schema);
}

void StructuredReader::Guided() {
  if (const json* schema = fields_.Any("guided_json")) Schema("guided_json", *schema);
  if (auto regex = fields_.String("guided_regex")) Claim("guided_regex")->set_regex(*regex);
  if (auto values = fields_.Strings("guided_choice")) Choice("guided_choice", *std::move(values));
  if (fields_.Any("guided_grammar") != nullptr) {
    fields_.Fail("guided_grammar", "is not supported; use a JSON schema or a regular expression");
  }
}

void StructuredReader::StructuredOutputs() {
  const json* outputs = fields_.Object("structured_outputs");
  if (outputs == nullptr) return;
  JsonFields inner(*outputs, "structured_outputs.");
  if (const json* schema = inner.Any("json")) Schema("structured_outputs.json", *schema);
  if (auto regex = inner.String("regex")) Claim("structured_outputs.regex")->set_regex(*regex);
  if (auto values = inner.Strings("choice")) {
    Choice("structured_outputs.choice", *std::move(values));
  }
  if (inner.Bool("json_object").value_or(false)) {
    Claim("structured_outputs.json_object")->set_json_object(true);
  }
  if (inner.Any("grammar") != nullptr || inner.Any("structural_tag") != nullptr) {
    inner.Fail("grammar", "is not supported; use a JSON schema or a regular expression");
  }
  fields_.Adopt(inner.status());
}

// Values of one type each; a map of biases and structured output have readers of their own.
void ReadField(JsonFields& fields, const SamplingField& field, v1::SamplingOptions* options) {
  switch (field.kind) {
    case SamplingKind::kInt:
      if (auto v = fields.Int(field.name)) model::SetInt(field, *v, options);
      return;
    case SamplingKind::kFloat:
      if (auto v = fields.Float(field.name)) model::SetFloat(field, *v, options);
      return;
    case SamplingKind::kSeed:
      if (auto v = fields.Uint64(field.name)) model::SetSeed(field, *v, options);
      return;
    case SamplingKind::kBool:
      if (auto v = fields.Bool(field.name)) model::SetBool(field, *v, options);
      return;
    case SamplingKind::kTexts: {
      // OpenAI's stop may be one string; bad_words is a list.
      const bool one = field.name == absl::string_view(model::kStop.name);
      auto texts = one ? fields.StringOrStrings(field.name) : fields.Strings(field.name);
      if (!texts) return;
      for (std::string& text : *texts) model::AddText(field, std::move(text), options);
      return;
    }
    case SamplingKind::kTokenIds:
      if (auto ids = fields.Ints(field.name)) {
        for (const int32_t id : *ids) model::AddTokenId(field, id, options);
      }
      return;
    case SamplingKind::kBias:
    case SamplingKind::kStructured:
      return;
  }
}

struct Unsupported {
  const char* field;
  bool harmless_bool;  // the value that asks for nothing; any other type is refused
};

}  // namespace

void ReadSampling(JsonFields& fields, v1::SamplingOptions* options) {
  for (const SamplingField& field : model::kSamplingFields) {
    const absl::string_view name = field.name;
    if (name == model::kMaxTokens.name || name == model::kLogprobs.name) continue;
    ReadField(fields, field, options);
  }
  ReadLogitBias(fields, options);
  ReadStructuredOutput(fields, options);
}

void ReadStructuredOutput(JsonFields& fields, v1::SamplingOptions* options) {
  StructuredReader reader(fields, options);
  reader.ResponseFormat();
  reader.Guided();
  reader.StructuredOutputs();
}

void RefuseUnsupported(JsonFields& fields) {
  constexpr Unsupported kUnsupported[] = {
      {"use_beam_search", false},         {"include_stop_str_in_output", false},
      {"skip_special_tokens", true},      {"allowed_token_ids", false},
      {"logits_processors", false},       {"prompt_embeds", false},
      {"truncate_prompt_tokens", false},  {"continue_final_message", false},
      {"add_generation_prompt", true},    {"chat_template", false},
      {"functions", false},               {"function_call", false},
      {"audio", false},
  };
  for (const auto& [field, harmless] : kUnsupported) {
    const json* value = fields.Any(field);
    if (value == nullptr || (value->is_boolean() && value->get<bool>() == harmless)) continue;
    fields.Fail(field, "is not supported by this server; leave it out");
  }
}

}  // namespace tessera::coordinator
