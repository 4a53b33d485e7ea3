// What structured output costs the coordinator, in microseconds of the thread's processor time:
// compiling a source, a mask met for the first time (new) and one met before (kept), along a walk
// of random tokens. Vocabularies: made-up words, or a model's own:
//
//   tessera-worker --describe --model MODEL > model.desc && tessera_grammar_masks model.desc
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "coordinator/grammar/grammar.h"
#include "coordinator/text/tokenizer/tokenizer.h"

namespace tessera::coordinator {
namespace {

constexpr int kCompilations = 5;
constexpr int kSteps = 1000;

class WordList : public Tokenizer {
 public:
  // All bytes, then words of one to a dozen letters with and without a space before them.
  explicit WordList(int size) {
    std::mt19937 random(1);
    for (int byte = 0; byte < 256; ++byte) tokens_.emplace_back(1, static_cast<char>(byte));
    while (static_cast<int>(tokens_.size()) < size - 1) {
      std::string word = random() % 2 == 0 ? " " : "";
      for (int letters = 2 + random() % 11; letters > 0; --letters) {
        // Squared, so that words share their beginnings as those of a language do.
        const auto draw = random() % 26;
        word += static_cast<char>('a' + draw * (random() % 26) / 26);
      }
      tokens_.push_back(std::move(word));
    }
    tokens_.emplace_back("<|end|>");
  }

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view,
                                              const EncodeOptions&) const override {
    return absl::UnimplementedError("a list of words does not encode");
  }
  const std::string& TokenBytes(int32_t id) const override { return tokens_[id]; }
  bool IsControl(int32_t id) const override { return IsStop(id); }
  bool IsStop(int32_t id) const override { return id == vocab_size() - 1; }
  int vocab_size() const override { return static_cast<int>(tokens_.size()); }
  size_t longest_token_bytes() const override { return 16; }
  bool strips_leading_space() const override { return false; }

 private:
  std::vector<std::string> tokens_;
};

struct Source {
  const char* name;
  v1::StructuredOutput output;
};

std::vector<Source> Sources() {
  std::vector<Source> sources(6);
  sources[0].name = "any object";
  sources[0].output.set_json_object(true);
  sources[1].name = "person schema";
  sources[1].output.set_json_schema(
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,
      "maximum":150},"tags":{"type":"array","items":{"type":"string","maxLength":200}},
      "born":{"type":"string","format":"date"}},"required":["name","age","tags"],
      "additionalProperties":false})");
  sources[2].name = "recursive schema";
  sources[2].output.set_json_schema(
      R"({"$defs":{"n":{"type":"object","properties":{"text":{"type":"string"},"kids":{"type":"array",
      "items":{"$ref":"#/$defs/n"}}},"required":["text"]}},"$ref":"#/$defs/n"})");
  sources[3].name = "bounded string";
  sources[3].output.set_json_schema(R"({"type":"string","minLength":100,"maxLength":5000})");
  sources[4].name = "regex";
  sources[4].output.set_regex("([A-Z][a-z]+ ){2,8}<[a-z.]+@[a-z]+\\.(com|org)>");
  sources[5].name = "1024 choices";
  for (int i = 0; i < 1024; ++i) {
    sources[5].output.mutable_choice()->add_values("choice number " + std::to_string(i * 7919));
  }
  return sources;
}

// Of this thread's processor time: what else runs on the machine does not count.
double Now() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

// "median/worst (count)"
std::string Summary(std::vector<double> values) {
  if (values.empty()) return "-";
  std::sort(values.begin(), values.end());
  return absl::StrFormat("%.1f / %.1f (%d)", values[values.size() / 2], values.back(),
                         values.size());
}

struct MaskTimes {
  std::vector<double> fresh;
  std::vector<double> kept;
};

// Starts again whenever an output ends.
MaskTimes Walk(const CompiledGrammar& grammar, const Tokenizer& tokenizer) {
  std::mt19937 random(7);
  MaskTimes times;
  std::set<const std::string*> seen;
  std::vector<int32_t> allowed;
  auto constraint = grammar.Start();
  for (int step = 0; step < kSteps; ++step) {
    const double start = Now();
    const std::string& mask = constraint->AllowedMask();
    const double elapsed = Now() - start;
    (seen.insert(&mask).second ? times.fresh : times.kept).push_back(elapsed);
    allowed.clear();
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if ((mask[id / 8] >> (id % 8) & 1) != 0) allowed.push_back(id);
    }
    const int32_t token = allowed[random() % allowed.size()];
    if (!constraint->Accept(token)) std::abort();
    if (tokenizer.IsStop(token)) constraint = grammar.Start();
  }
  return times;
}

void Measure(const char* name, const Tokenizer& tokenizer) {
  std::vector<int32_t> stops;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsStop(id)) stops.push_back(id);
  }
  const double start = Now();
  const auto vocabulary = GrammarVocabulary::Create(tokenizer, stops, tokenizer.vocab_size());
  std::printf("\n%s: %d tokens, trie built in %.0f ms\n", name, tokenizer.vocab_size(),
              (Now() - start) / 1000);
  std::printf("median / worst (count), us\n%-18s %26s %26s %26s\n", "", "compile", "new mask",
              "kept mask");
  for (const Source& source : Sources()) {
    std::vector<double> compilations;
    std::shared_ptr<const CompiledGrammar> grammar;
    for (int i = 0; i < kCompilations; ++i) {
      // A vocabulary of its own each time: one keeps what was compiled for it.
      const auto fresh = GrammarVocabulary::Create(tokenizer, stops, tokenizer.vocab_size());
      const double began = Now();
      auto compiled = CompiledGrammar::Compile(source.output, fresh);
      compilations.push_back(Now() - began);
      if (!compiled.ok()) {
        std::fprintf(stderr, "%s: %s\n", source.name, compiled.status().ToString().c_str());
        std::exit(1);
      }
      grammar = *std::move(compiled);
    }
    const MaskTimes times = Walk(*grammar, tokenizer);
    std::printf("%-18s %26s %26s %26s\n", source.name, Summary(compilations).c_str(),
                Summary(times.fresh).c_str(), Summary(times.kept).c_str());
  }
}

std::unique_ptr<Tokenizer> ReadTokenizer(const char* path) {
  std::ifstream file(path, std::ios::binary);
  v1::ModelDescription description;
  if (!file || !description.ParseFromIstream(&file)) {
    std::fprintf(stderr, "%s: expected what tessera-worker --describe writes\n", path);
    std::exit(1);
  }
  auto tokenizer = Tokenizer::Create(description.tokenizer());
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s: %s\n", path, tokenizer.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(tokenizer);
}

}  // namespace
}  // namespace tessera::coordinator

int main(int argc, char** argv) {
  using tessera::coordinator::Measure;
  for (int i = 1; i < argc; ++i) Measure(argv[i], *tessera::coordinator::ReadTokenizer(argv[i]));
  if (argc > 1) return 0;
  Measure("made-up words", tessera::coordinator::WordList(49'152));
  Measure("made-up words", tessera::coordinator::WordList(131'072));
}
