// The program tessera_serving_benchmark: load on an OpenAI-compatible server, and what came of it.
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "benchmarks/serving/compare.h"
#include "benchmarks/serving/load_generator.h"
#include "benchmarks/serving/openai_wire.h"
#include "benchmarks/serving/read_file.h"
#include "benchmarks/serving/report.h"
#include "benchmarks/serving/workload.h"
#include "proto/base/status_macros.h"

namespace tessera::benchmarks {
namespace {

struct Flags {
  std::string url = "http://127.0.0.1:8000";
  std::string model, api_key, scenario, goodput, json_path, svg_path, title;
  std::vector<std::string> headers, compare;
  std::string extra_body;
  uint64_t seed = 0;
  double request_timeout_s = 600.0;
  Workload workload;
};

constexpr const char* kFooter = R"(
Arrivals: with --request-rate a Poisson process, with --concurrency a closed loop, with neither all
at once. Lengths: fixed:N, uniform:A-B, lognormal:MEAN,SIGMA[,MAX] or file:PATH, a histogram with
lines LENGTH WEIGHT. With one --seed every run sends the same texts: give another seed to a server
whose prefix cache has seen them. Warm-up requests share the prefixes of the measured ones, and
nothing else.

Examples
  16 streams in a closed loop, answers of exactly 64 tokens
    tessera_serving_benchmark --concurrency 16 --num-requests 64 --ignore-eos
  Five requests per second, goodput at interactive bounds, a plot
    tessera_serving_benchmark --request-rate 5 --num-requests 200 --goodput ttft:500,tpot:50 \
      --svg a.svg
  A shared prefix of 500 tokens
    tessera_serving_benchmark --concurrency 1 --num-requests 20 --warmup 1 \
      --shared-prefix-tokens 500
  A flooding tenant beside a quiet one
    tessera_serving_benchmark --scenario flood.json --json flood.json
  Two servers
    tessera_serving_benchmark --compare ours.json theirs.json
)";

void AddServerFlags(CLI::App& app, Flags& flags) {
  const std::string group = "Server";
  app.add_option("--url", flags.url, "http://HOST[:PORT][/PATH] of the server")
      ->capture_default_str()
      ->group(group);
  app.add_option("--model", flags.model, "its name there (default: the first of /v1/models)")
      ->group(group);
  app.add_option("--api-key", flags.api_key, "sent as a Bearer token")->group(group);
  app.add_option("--request-timeout", flags.request_timeout_s, "seconds for a whole answer")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 86400.0))
      ->group(group);
}

void AddWorkloadFlags(CLI::App& app, Flags& flags) {
  const std::string group = "Workload";
  Workload& workload = flags.workload;
  workload.num_requests = 32;
  const auto add = [&](const char* name, auto& value, const char* text) {
    return app.add_option(name, value, text)->capture_default_str()->group(group);
  };
  add("--endpoint", workload.endpoint, "completions or chat");
  add("--request-rate", workload.request_rate, "Poisson arrivals per second (0: not)");
  add("--concurrency", workload.concurrency, "clients in a closed loop (0: not)");
  add("--num-requests", workload.num_requests,
      "in all, conversations with --turns (0: --duration alone bounds it)");
  add("--duration", workload.duration_s, "seconds in which requests begin (0: no bound)");
  add("--warmup", workload.warmup, "requests before the measurement, one after another");
  add("--turns", workload.turns, "per conversation; each sends all so far");
  add("--prompt-tokens", workload.prompt_tokens, "length of a turn's own text");
  add("--output-tokens", workload.output_tokens, "max_tokens of a turn");
  add("--shared-prefix-tokens", workload.shared_prefix_tokens, "in front of each first turn");
  add("--num-prefixes", workload.num_prefixes, "how many different ones, in turn");
  add("--temperature", workload.temperature, "of sampling");
  app.add_flag("--ignore-eos", workload.ignore_eos,
               "answers of exactly --output-tokens (sends ignore_eos and min_tokens)")
      ->group(group);
  add("--tenant", workload.tenant, "sent as x-tenant-id");
  app.add_option("--header", flags.headers, "NAME:VALUE, may be repeated")->group(group);
  app.add_option("--extra-body", flags.extra_body, "JSON object put over the request's body")
      ->group(group);
  app.add_option("--scenario", flags.scenario,
                 "JSON file of workloads side by side; the flags above are their defaults")
      ->group(group);
  app.add_option("--seed", flags.seed, "of texts, lengths and arrivals")
      ->capture_default_str()
      ->group(group);
}

void AddReportFlags(CLI::App& app, Flags& flags) {
  const std::string group = "Report";
  app.add_option("--goodput", flags.goodput, "bounds, for example ttft:500,tpot:50,e2el:5000 (ms)")
      ->group(group);
  app.add_option("--json", flags.json_path, "write the figures here")->group(group);
  app.add_option("--svg", flags.svg_path, "draw them here")->group(group);
  app.add_option("--title", flags.title, "of the drawing")->group(group);
  app.add_option("--compare", flags.compare, "print two --json files and their ratios; no load")
      ->expected(2)
      ->group(group);
}

absl::Status WriteFile(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write '", path, "'"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Workload>> Workloads(const Flags& flags) {
  Workload defaults = flags.workload;
  for (const std::string& text : flags.headers) {
    TESSERA_ASSIGN_OR_RETURN(auto header, ParseHeader(text));
    defaults.headers.push_back(std::move(header));
  }
  if (!flags.extra_body.empty()) {
    defaults.extra_body = nlohmann::json::parse(flags.extra_body, nullptr, false);
    if (!defaults.extra_body.is_object()) {
      return absl::InvalidArgumentError("--extra-body: expected a JSON object");
    }
  }
  if (flags.scenario.empty()) {
    TESSERA_RETURN_IF_ERROR(CheckWorkload(defaults));
    return std::vector<Workload>{defaults};
  }
  TESSERA_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.scenario));
  return ParseScenario(text, flags.scenario, defaults);
}

// A connection per stream: many streams need many descriptors.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void PrintProgress(const LoadProgress& progress) {
  std::fprintf(stderr, "\r%6.0f s  %lld sent, %lld answered, %lld failed ", progress.elapsed_s,
               static_cast<long long>(progress.sent), static_cast<long long>(progress.answered),
               static_cast<long long>(progress.failed));
}

nlohmann::json JsonReport(const Flags& flags, const LoadResult& result,
                          const std::vector<Workload>& workloads,
                          const std::vector<WorkloadReport>& reports) {
  nlohmann::json root = {{"url", flags.url},
                         {"model", result.model},
                         {"seed", flags.seed},
                         {"tokens_per_word", result.tokens_per_word},
                         {"prompt_lengths_calibrated", result.calibrated},
                         {"refused_fields", result.refused_fields},
                         {"interrupted", result.interrupted},
                         {"goodput_bounds", flags.goodput},
                         {"workloads", nlohmann::json::array()}};
  for (size_t i = 0; i < reports.size(); ++i) {
    nlohmann::json report = ReportToJson(reports[i]);
    if (i < workloads.size()) report["settings"] = WorkloadToJson(workloads[i]);
    root["workloads"].push_back(std::move(report));
  }
  return root;
}

void PrintNotes(const LoadResult& result) {
  if (!result.calibrated) {
    std::printf("note: no tokenizer on the server; prompt lengths are estimates\n");
  }
  if (!result.refused_fields.empty()) {
    std::printf("note: the server refused %s; left out\n",
                absl::StrJoin(result.refused_fields, ", ").c_str());
  }
  if (result.interrupted) std::printf("note: interrupted; these are the requests that had ended\n");
  for (const RequestRecord& record : result.records) {
    if (record.failure.empty()) continue;
    std::printf("note: the first failure: %s %s\n", record.failure.c_str(),
                record.failure_detail.c_str());
    break;
  }
}

absl::Status RunAndReport(const Flags& flags) {
  LoadOptions options{.target = {},
                      .model = flags.model,
                      .api_key = flags.api_key,
                      .workloads = {},
                      .seed = flags.seed,
                      .request_timeout_s = flags.request_timeout_s,
                      .on_progress = {}};
  TESSERA_ASSIGN_OR_RETURN(options.target, ParseUrl(flags.url));
  TESSERA_ASSIGN_OR_RETURN(options.workloads, Workloads(flags));
  std::optional<Goodput> bounds;
  if (!flags.goodput.empty()) {
    TESSERA_ASSIGN_OR_RETURN(bounds, ParseGoodput(flags.goodput));
  }
  const bool terminal = isatty(STDERR_FILENO) == 1;
  if (terminal) options.on_progress = PrintProgress;
  RaiseDescriptorLimit();

  TESSERA_ASSIGN_OR_RETURN(const LoadResult result, RunLoad(options));
  if (terminal) std::fprintf(stderr, "\r\033[K");
  const std::vector<WorkloadReport> reports =
      MakeReports(options.workloads, result.records, bounds);
  std::printf("%s at %s\n\n%s\n", result.model.c_str(), flags.url.c_str(),
              ReportTable(reports).c_str());
  PrintNotes(result);
  if (!flags.json_path.empty()) {
    const std::string json = JsonReport(flags, result, options.workloads, reports).dump(2) + "\n";
    TESSERA_RETURN_IF_ERROR(WriteFile(flags.json_path, json));
  }
  if (!flags.svg_path.empty()) {
    const WorkloadReport& all = reports.back();
    const std::string title = flags.title.empty() ? result.model : flags.title;
    const std::string subtitle =
        absl::StrFormat("%d requests answered in %.1f s, %.1f output tokens per second",
                        all.completed, all.duration_s, all.output_throughput);
    TESSERA_RETURN_IF_ERROR(WriteFile(
        flags.svg_path, ReportSvg(title, subtitle, options.workloads, result.records, reports)));
  }
  if (reports.back().completed == 0) return absl::UnavailableError("no request was answered");
  return absl::OkStatus();
}

absl::Status Compare(const std::vector<std::string>& paths) {
  TESSERA_ASSIGN_OR_RETURN(const std::string a, ReadFile(paths[0]));
  TESSERA_ASSIGN_OR_RETURN(const std::string b, ReadFile(paths[1]));
  TESSERA_ASSIGN_OR_RETURN(const std::string table, CompareReports(a, paths[0], b, paths[1]));
  std::printf("%s", table.c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace tessera::benchmarks

int main(int argc, char** argv) {
  using namespace tessera::benchmarks;
  Flags flags;
  CLI::App app("Measures an OpenAI-compatible server: TTFT, TPOT, ITL, E2EL, goodput, throughput",
               "tessera_serving_benchmark");
  AddServerFlags(app, flags);
  AddWorkloadFlags(app, flags);
  AddReportFlags(app, flags);
  app.footer(kFooter);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = flags.compare.empty() ? RunAndReport(flags) : Compare(flags.compare);
  if (status.ok()) return 0;
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return 1;
}
