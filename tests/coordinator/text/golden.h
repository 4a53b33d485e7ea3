// The golden texts and ids of tests/golden/tokenizers, and small descriptions for tests.
#ifndef TESSERA_TESTS_COORDINATOR_TEXT_GOLDEN_H_
#define TESSERA_TESTS_COORDINATOR_TEXT_GOLDEN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

std::string ReadGoldenFile(const std::string& name);  // "" and a test failure when missing

std::vector<std::string> GoldenTexts();

// What the reference gives for each text, written as in the .ids files.
struct GoldenIds {
  std::string with_special, plain;
};
std::vector<GoldenIds> ReadGoldenIds(const std::string& name);
std::string IdsText(const std::vector<int32_t>& ids);

v1::TokenizerDescription GoldenDescription(const std::string& name);
std::unique_ptr<Tokenizer> GoldenTokenizer(const std::string& name);

// Compares all golden texts, without control tokens recognized and, where the reference knows how,
// with them.
void ExpectGoldenIds(const Tokenizer& tokenizer, const std::string& name,
                     bool compare_special = true);
void ExpectGoldenIds(const Tokenizer& tokenizer, const std::vector<GoldenIds>& golden,
                     bool compare_special = true);

}  // namespace tessera::coordinator

#endif  // TESSERA_TESTS_COORDINATOR_TEXT_GOLDEN_H_
