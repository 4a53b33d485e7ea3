// The default model's tokenizer, as the worker program describes it from the model file. Skipped,
// loudly, where the model or the program is missing.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

#include "coordinator/text/chat/format.h"
#include "coordinator/text/chat/renderer.h"
#include "tests/coordinator/text/golden.h"

namespace tessera::coordinator {
namespace {

std::string DefaultModelPath() {
  if (const char* path = std::getenv("TESSERA_TEST_MODEL")) return path;
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "" : home) +
         "/.cache/tessera/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

std::string OutputOf(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return output;
  char buffer[1 << 16];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.append(buffer, n);
  const int exit_status = pclose(pipe);
  EXPECT_EQ(exit_status, 0) << command;
  return output;
}

class DefaultModel : public testing::Test {
 protected:
  void SetUp() override {
    const std::string model = DefaultModelPath();
    const std::string worker = TESSERA_BINARY_DIR "/bin/tessera-worker";
    for (const std::string& needed : {model, worker}) {
      if (std::filesystem::exists(needed)) continue;
      std::cerr << "\n*** SKIPPED: " << needed
                << " is missing; the default model's tokenizer was NOT tested ***\n\n";
      GTEST_SKIP() << needed << " is missing";
    }
    const std::string bytes = OutputOf("'" + worker + "' --describe --model '" + model + "'");
    ASSERT_TRUE(description_.ParseFromString(bytes)) << bytes.size() << " bytes";
    auto tokenizer = Tokenizer::Create(description_.tokenizer());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  v1::ModelDescription description_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(DefaultModel, IdsEqualTheReference) { ExpectGoldenIds(*tokenizer_, "default_model"); }

TEST_F(DefaultModel, ItsTemplateIsChatMlWithADefaultSystemMessage) {
  const auto format = RecognizeChatFormat(description_.chat_template());
  ASSERT_TRUE(format.ok()) << format.status();
  EXPECT_EQ(format->family, ChatFamily::kChatMl);
  EXPECT_EQ(format->default_system,
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
}

// Evaluated, the template writes what the recognized family does.
TEST_F(DefaultModel, ItsTemplateEvaluatedEqualsItsFamily) {
  const auto format = RecognizeChatFormat(description_.chat_template());
  ASSERT_TRUE(format.ok()) << format.status();
  const auto renderer = ChatRenderer::Create({.jinja = description_.chat_template()});
  ASSERT_TRUE(renderer.ok()) << renderer.status();
  EXPECT_EQ((*renderer)->description(), "jinja");
  const std::vector<std::vector<ChatTurn>> conversations = {
      {{"user", "Hi"}},
      {{"system", "Be brief."}, {"user", " padded \n"}},
      {{"user", "a"}, {"assistant", "\u00e9 <|im_end|>"}, {"user", ""}},
      {{"system", ""}, {"user", "a"}, {"user", "b"}, {"system", "late"}}};
  for (const std::vector<ChatTurn>& turns : conversations) {
    ChatInput input;
    for (const ChatTurn& turn : turns) {
      input.messages.push_back({.role = turn.role, .content = turn.content});
    }
    const auto family = RenderChatPrompt(*format, turns);
    const auto evaluated = (*renderer)->Render(input);
    ASSERT_TRUE(family.ok() && evaluated.ok()) << evaluated.status();
    EXPECT_EQ(evaluated->text(), family->text());
    ASSERT_EQ(evaluated->contents().size(), family->contents().size());
    for (size_t i = 0; i < family->contents().size(); ++i) {
      EXPECT_EQ(evaluated->contents()[i].begin, family->contents()[i].begin);
      EXPECT_EQ(evaluated->contents()[i].end, family->contents()[i].end);
    }
  }
}

TEST_F(DefaultModel, APromptUsesItsControlTokens) {
  const auto format = RecognizeChatFormat(description_.chat_template());
  ASSERT_TRUE(format.ok()) << format.status();
  const auto prompt = RenderChat(*format, {{"user", "Hi"}});
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  const auto ids = tokenizer_->Encode(*prompt, {.add_special = true, .parse_special = true});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(ids->front(), 1);  // <|im_start|>
  EXPECT_EQ(tokenizer_->Decode(*ids, /*skip_special=*/false), *prompt);
  EXPECT_TRUE(tokenizer_->IsStop(2));  // <|im_end|>
  EXPECT_TRUE(tokenizer_->IsControl(2));
}

}  // namespace
}  // namespace tessera::coordinator
