#include "tests/coordinator/text/golden.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace tessera::coordinator {

std::string ReadGoldenFile(const std::string& name) {
  const std::string path = absl::StrCat(TESSERA_SOURCE_DIR, "/tests/golden/tokenizers/", name);
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << "cannot read " << path;
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::vector<std::string> GoldenTexts() {
  std::vector<std::string> texts;
  for (const auto& item : nlohmann::json::parse(ReadGoldenFile("strings.json"))) {
    if (item.is_string()) {
      texts.push_back(item.get<std::string>());
    } else if (item.contains("hex")) {
      texts.push_back(absl::HexStringToBytes(item["hex"].get<std::string>()));
    } else {
      std::string& text = texts.emplace_back();
      for (int i = 0; i < item["repeat"][1].get<int>(); ++i) {
        text += item["repeat"][0].get<std::string>();
      }
    }
  }
  return texts;
}

std::vector<GoldenIds> ReadGoldenIds(const std::string& name) {
  std::string content = ReadGoldenFile(name + ".ids");
  if (!content.empty() && content.back() == '\n') content.pop_back();
  std::vector<GoldenIds> all;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(content, '\n'))) {
    const size_t tab = line.find('\t');
    all.push_back({line.substr(0, tab), tab == line.npos ? line : line.substr(tab + 1)});
  }
  return all;
}

std::string IdsText(const std::vector<int32_t>& ids) {
  if (ids.size() <= 300) return absl::StrJoin(ids, " ");
  uint64_t hash = 0xCBF29CE484222325;  // FNV-1a over the ids as little-endian 32-bit numbers
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<uint32_t>(id) >> shift & 0xFF)) * 0x100000001B3;
    }
  }
  return absl::StrFormat("#%d %016x", ids.size(), hash);
}

v1::TokenizerDescription GoldenDescription(const std::string& name) {
  v1::TokenizerDescription description;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(ReadGoldenFile(name + ".textproto"),
                                                            &description));
  return description;
}

std::unique_ptr<Tokenizer> GoldenTokenizer(const std::string& name) {
  auto tokenizer = Tokenizer::Create(GoldenDescription(name));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

void ExpectGoldenIds(const Tokenizer& tokenizer, const std::string& name, bool compare_special) {
  ExpectGoldenIds(tokenizer, ReadGoldenIds(name), compare_special);
}

void ExpectGoldenIds(const Tokenizer& tokenizer, const std::vector<GoldenIds>& golden,
                     bool compare_special) {
  const std::vector<std::string> texts = GoldenTexts();
  ASSERT_GE(texts.size(), 2000u);
  ASSERT_EQ(texts.size(), golden.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    SCOPED_TRACE(absl::StrCat("text ", i, ": ", absl::CHexEscape(texts[i].substr(0, 200))));
    const auto with_special =
        tokenizer.Encode(texts[i], {.add_special = false, .parse_special = true});
    const auto plain = tokenizer.Encode(texts[i], {.add_special = false, .parse_special = false});
    ASSERT_TRUE(with_special.ok()) << with_special.status();
    ASSERT_TRUE(plain.ok()) << plain.status();
    if (compare_special) {
      EXPECT_EQ(IdsText(*with_special), golden[i].with_special);
    }
    EXPECT_EQ(IdsText(*plain), golden[i].plain);
  }
}

}  // namespace tessera::coordinator
