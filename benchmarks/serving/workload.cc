#include "benchmarks/serving/workload.h"

#include <cmath>
#include <functional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "benchmarks/serving/length_distribution.h"
#include "proto/base/status_macros.h"

namespace tessera::benchmarks {
namespace {

using nlohmann::json;

// One key of the scenario file. Reading it wrongly typed is an error that says `expected`.
struct Field {
  const char* name;
  const char* expected;
  std::function<bool(const json&, Workload&)> read;
  std::function<json(const Workload&)> write;
};

Field StringField(const char* name, std::string Workload::*member) {
  return {name, "a string",
          [member](const json& value, Workload& workload) {
            if (!value.is_string()) return false;
            workload.*member = value.get<std::string>();
            return true;
          },
          [member](const Workload& workload) { return json(workload.*member); }};
}

Field IntField(const char* name, int Workload::*member) {
  return {
      name, "a whole number, 0 .. 10^9",
      [member](const json& value, Workload& workload) {
        // Compared as double: an integer past int64 is unsigned or a float in the parser's eyes.
        if (!value.is_number_integer() || value.get<double>() < 0 || value.get<double>() > 1e9) {
          return false;
        }
        workload.*member = value.get<int>();
        return true;
      },
      [member](const Workload& workload) { return json(workload.*member); }};
}

Field NumberField(const char* name, double Workload::*member) {
  return {name, "a number",
          [member](const json& value, Workload& workload) {
            if (!value.is_number()) return false;
            workload.*member = value.get<double>();
            return true;
          },
          [member](const Workload& workload) { return json(workload.*member); }};
}

bool ReadHeaders(const json& value, Workload& workload) {
  if (!value.is_object()) return false;
  workload.headers.clear();
  for (const auto& [name, content] : value.items()) {
    if (!content.is_string()) return false;
    auto header = ParseHeader(absl::StrCat(name, ":", content.get<std::string>()));
    if (!header.ok()) return false;
    workload.headers.push_back(*std::move(header));
  }
  return true;
}

const std::vector<Field>& Fields() {
  static const auto* const fields = new std::vector<Field>{
      StringField("name", &Workload::name),
      StringField("endpoint", &Workload::endpoint),
      StringField("tenant", &Workload::tenant),
      {"headers", "an object of strings", ReadHeaders,
       [](const Workload& workload) {
         json headers = json::object();
         for (const auto& [name, value] : workload.headers) headers[name] = value;
         return headers;
       }},
      NumberField("request_rate", &Workload::request_rate),
      IntField("concurrency", &Workload::concurrency),
      NumberField("start_s", &Workload::start_s),
      IntField("num_requests", &Workload::num_requests),
      NumberField("duration_s", &Workload::duration_s),
      IntField("warmup", &Workload::warmup),
      IntField("turns", &Workload::turns),
      StringField("prompt_tokens", &Workload::prompt_tokens),
      StringField("output_tokens", &Workload::output_tokens),
      IntField("shared_prefix_tokens", &Workload::shared_prefix_tokens),
      IntField("num_prefixes", &Workload::num_prefixes),
      {"ignore_eos", "true or false",
       [](const json& value, Workload& workload) {
         if (!value.is_boolean()) return false;
         workload.ignore_eos = value.get<bool>();
         return true;
       },
       [](const Workload& workload) { return json(workload.ignore_eos); }},
      NumberField("temperature", &Workload::temperature),
      {"extra_body", "an object",
       [](const json& value, Workload& workload) {
         workload.extra_body = value;
         return value.is_object();
       },
       [](const Workload& workload) { return workload.extra_body; }},
  };
  return *fields;
}

absl::StatusOr<Workload> ParseWorkload(const json& object, const std::string& where,
                                       const Workload& defaults) {
  if (!object.is_object()) return absl::InvalidArgumentError(where + ": expected an object");
  Workload workload = defaults;
  // Naming one kind of arrival takes the place of the command line's.
  if (object.contains("request_rate")) workload.concurrency = 0;
  if (object.contains("concurrency")) workload.request_rate = 0.0;
  for (const auto& [key, value] : object.items()) {
    const Field* found = nullptr;
    for (const Field& field : Fields()) {
      if (key == field.name) found = &field;
    }
    if (found == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(where, ".", key, ": no such key"));
    }
    if (!found->read(value, workload)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ".", key, ": is ", value.dump(), "; expected ", found->expected));
    }
  }
  if (absl::Status status = CheckWorkload(workload); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", status.message()));
  }
  return workload;
}

}  // namespace

absl::Status CheckWorkload(const Workload& workload) {
  const auto bad = [&](absl::string_view field, const auto& is, absl::string_view expected) {
    return absl::InvalidArgumentError(absl::StrCat("workload '", workload.name, "': ", field,
                                                   " is ", is, "; expected ", expected));
  };
  const auto finite_from_0 = [](double value) { return value >= 0.0 && std::isfinite(value); };
  if (workload.endpoint != "completions" && workload.endpoint != "chat") {
    return bad("endpoint", workload.endpoint, "completions or chat");
  }
  if (!finite_from_0(workload.request_rate)) {
    return bad("request_rate", workload.request_rate, "0 or more per second");
  }
  if (workload.concurrency < 0) return bad("concurrency", workload.concurrency, "0 or more");
  if (workload.request_rate > 0.0 && workload.concurrency > 0) {
    return bad("request_rate", workload.request_rate,
               "it without concurrency: one kind of arrival");
  }
  if (!finite_from_0(workload.start_s)) return bad("start_s", workload.start_s, "0 or more");
  if (!finite_from_0(workload.duration_s)) return bad("duration", workload.duration_s, "0 or more");
  if (workload.num_requests < 0) return bad("num_requests", workload.num_requests, "0 or more");
  const bool paced = workload.request_rate > 0.0 || workload.concurrency > 0;
  if (workload.num_requests == 0 && (workload.duration_s == 0.0 || !paced)) {
    return bad("num_requests", 0, "1 or more, or a duration with request_rate or concurrency");
  }
  if (workload.turns < 1 || workload.turns > 1000) return bad("turns", workload.turns, "1 .. 1000");
  if (workload.warmup < 0) return bad("warmup", workload.warmup, "0 or more");
  if (workload.shared_prefix_tokens < 0 || workload.shared_prefix_tokens > kMaxTokens) {
    return bad("shared_prefix_tokens", workload.shared_prefix_tokens,
               absl::StrCat("0 .. ", kMaxTokens));
  }
  if (workload.num_prefixes < 1) return bad("num_prefixes", workload.num_prefixes, "1 or more");
  if (!finite_from_0(workload.temperature)) {
    return bad("temperature", workload.temperature, "0 or more");
  }
  if (!workload.tenant.empty()) {
    TESSERA_RETURN_IF_ERROR(ParseHeader("x-tenant-id:" + workload.tenant).status());
  }
  TESSERA_RETURN_IF_ERROR(LengthDistribution::Parse(workload.prompt_tokens).status());
  return LengthDistribution::Parse(workload.output_tokens).status();
}

absl::StatusOr<std::vector<Workload>> ParseScenario(absl::string_view text,
                                                    absl::string_view source,
                                                    const Workload& defaults) {
  json root;
  try {
    root = json::parse(text.begin(), text.end());
  } catch (const json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", error.what()));
  }
  if (!root.is_object() || root.size() != 1 || !root.contains("workloads") ||
      !root["workloads"].is_array() || root["workloads"].empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": expected {\"workloads\": [{...}, ...]}, at least one"));
  }
  std::vector<Workload> workloads;
  std::set<std::string> names;
  for (size_t i = 0; i < root["workloads"].size(); ++i) {
    const std::string where = absl::StrCat(source, ": workloads[", i, "]");
    Workload with_name = defaults;
    with_name.name = absl::StrCat("workload ", i);
    TESSERA_ASSIGN_OR_RETURN(Workload workload,
                             ParseWorkload(root["workloads"][i], where, with_name));
    if (!names.insert(workload.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ".name: '", workload.name, "' is taken; expected different names"));
    }
    workloads.push_back(std::move(workload));
  }
  return workloads;
}

nlohmann::json WorkloadToJson(const Workload& workload) {
  json object = json::object();
  for (const Field& field : Fields()) object[field.name] = field.write(workload);
  return object;
}

absl::StatusOr<std::pair<std::string, std::string>> ParseHeader(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  const absl::string_view name = parts.first;
  const absl::string_view value = absl::StripAsciiWhitespace(parts.second);
  bool good = !name.empty() && text.find(':') != absl::string_view::npos;
  for (char c : name) {
    good &= absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
            absl::string_view("!#$%&'*+-.^_`|~").find(c) != absl::string_view::npos;
  }
  for (char c : value) good &= absl::ascii_isprint(static_cast<unsigned char>(c)) || c == '\t';
  if (!good) {
    return absl::InvalidArgumentError(
        absl::StrCat("header '", absl::CHexEscape(text), "': expected NAME:VALUE, printable"));
  }
  return std::make_pair(std::string(name), std::string(value));
}

absl::StatusOr<Goodput> ParseGoodput(absl::string_view text) {
  Goodput goodput;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> item =
        absl::StrSplit(part, absl::MaxSplits(':', 1));
    double* const bound = item.first == "ttft"   ? &goodput.ttft_ms
                          : item.first == "tpot" ? &goodput.tpot_ms
                          : item.first == "e2el" ? &goodput.e2el_ms
                                                 : nullptr;
    if (bound == nullptr || !absl::SimpleAtod(item.second, bound) || !std::isfinite(*bound) ||
        *bound <= 0.0) {
      return absl::InvalidArgumentError(
          absl::StrCat("goodput '", text, "': '", part, "'; expected ttft:MS, tpot:MS or e2el:MS"));
    }
  }
  return goodput;
}

}  // namespace tessera::benchmarks
