// A small model whose tokens are bytes, with a chat template: what simulated groups and fake ones say
// that they serve, so that a test reads a token as the character it is.
//
//   *hello.mutable_model() = ByteModel();
#ifndef TESSERA_COORDINATOR_SIMULATE_BYTE_MODEL_H_
#define TESSERA_COORDINATOR_SIMULATE_BYTE_MODEL_H_

#include <string>

#include "coordinator/simulate/example_models.h"
#include "tessera/v1/model.pb.h"

namespace tessera::testing {

inline constexpr int kEos = 256;
inline constexpr int kImStart = 257;
inline constexpr int kImEnd = 258;
inline constexpr int kByteVocabulary = 259;

// Byte-level BPE without merges: the id of a token is its byte; three control tokens behind.
inline v1::TokenizerDescription ByteTokenizer() {
  v1::TokenizerDescription tokenizer;
  tokenizer.set_kind(v1::TOKENIZER_KIND_BYTE_LEVEL_BPE);
  int shifted = 256;  // bytes that are not printable stand for themselves from U+0100 on
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const int code = printable ? byte : shifted++;
    std::string utf8;
    if (code < 0x80) {
      utf8 = std::string(1, static_cast<char>(code));
    } else {
      utf8 = {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
    }
    tokenizer.add_tokens(utf8);
    tokenizer.add_types(v1::TOKEN_TYPE_NORMAL);
  }
  for (const char* control : {"<eos>", "<|im_start|>", "<|im_end|>"}) {
    tokenizer.add_tokens(control);
    tokenizer.add_types(v1::TOKEN_TYPE_CONTROL);
  }
  tokenizer.set_eos_id(kEos);
  tokenizer.add_stop_ids(kEos);
  tokenizer.add_stop_ids(kImEnd);
  return tokenizer;
}

inline v1::ModelDescription ByteModel() {
  v1::ModelDescription model = MakeModel(
      {.name = "bytes", .num_layers = 2, .vocab_size = kByteVocabulary, .max_positions = 256});
  *model.mutable_tokenizer() = ByteTokenizer();
  model.set_chat_template(
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
  return model;
}

}  // namespace tessera::testing

#endif  // TESSERA_COORDINATOR_SIMULATE_BYTE_MODEL_H_
