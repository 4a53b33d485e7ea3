// Small tokenizers for grammars: every byte is a token, some longer ones besides, two stop tokens.
#ifndef TESSERA_TESTS_COORDINATOR_GRAMMAR_TEST_VOCABULARY_H_
#define TESSERA_TESTS_COORDINATOR_GRAMMAR_TEST_VOCABULARY_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/grammar/grammar.h"
#include "coordinator/text/tokenizer/tokenizer.h"

namespace tessera::coordinator {

// Token i has tokens[i]'s bytes; the last one is a control token that stops.
class TokenList : public Tokenizer {
 public:
  explicit TokenList(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
    tokens_.push_back("<|end|>");
  }

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view,
                                              const EncodeOptions&) const override {
    return absl::UnimplementedError("not needed here");
  }
  const std::string& TokenBytes(int32_t id) const override { return tokens_[id]; }
  bool IsControl(int32_t id) const override { return id == stop_id(); }
  bool IsStop(int32_t id) const override { return id == stop_id(); }
  int vocab_size() const override { return static_cast<int>(tokens_.size()); }
  size_t longest_token_bytes() const override { return 64; }
  bool strips_leading_space() const override { return false; }

  int32_t stop_id() const { return static_cast<int32_t>(tokens_.size()) - 1; }

 private:
  std::vector<std::string> tokens_;
};

// Token b is the byte b; from 256 on come longer tokens as models have them.
std::vector<std::string> BytesAndPieces();

struct TestVocabulary {
  explicit TestVocabulary(std::vector<std::string> tokens = BytesAndPieces())
      : tokenizer(std::make_shared<TokenList>(std::move(tokens))),
        vocabulary(GrammarVocabulary::Create(*tokenizer, {tokenizer->stop_id()},
                                             tokenizer->vocab_size())) {}

  std::shared_ptr<TokenList> tokenizer;
  std::shared_ptr<const GrammarVocabulary> vocabulary;
};

v1::StructuredOutput Regex(const std::string& pattern);
v1::StructuredOutput Choice(const std::vector<std::string>& values);
v1::StructuredOutput Schema(const std::string& schema);
v1::StructuredOutput JsonObject();

bool Allows(const std::string& mask, int32_t token);
// Whether the constraint takes `text` byte by byte; it stands behind it then.
bool AcceptBytes(TokenConstraint& constraint, const std::string& text);
// Whether `text` is a whole output.
bool Matches(const CompiledGrammar& grammar, const TestVocabulary& vocabulary,
             const std::string& text);
// Whether `text` may still become a whole output.
bool MatchesPrefix(const CompiledGrammar& grammar, const std::string& text);

}  // namespace tessera::coordinator

#endif  // TESSERA_TESTS_COORDINATOR_GRAMMAR_TEST_VOCABULARY_H_
