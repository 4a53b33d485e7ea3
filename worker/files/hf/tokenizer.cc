#include "worker/files/hf/tokenizer.h"

#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/hf/bpe.h"
#include "worker/files/mapped_file.h"
#include "worker/files/stop_tokens.h"

namespace tessera::worker {
namespace {

// An empty object when the folder has no such file.
absl::StatusOr<Json> ReadOptional(const std::string& path, uint64_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return Json::object();
  return ReadJsonFile(path, max_bytes);
}

// tokenizer_config.json writes special tokens as "text" or {"content": "text", ...}.
std::optional<int32_t> SpecialTokenId(const Json& config, const char* key,
                                      const v1::TokenizerDescription& tokenizer) {
  const Json* value = FindMember(config, key);
  if (value != nullptr && value->is_object()) value = FindMember(*value, "content");
  if (value == nullptr || !value->is_string()) return std::nullopt;
  const auto& text = value->get_ref<const std::string&>();
  for (int id = 0; id < tokenizer.tokens_size(); ++id) {
    if (tokenizer.types(id) != v1::TOKEN_TYPE_UNUSED && tokenizer.tokens(id) == text) return id;
  }
  return std::nullopt;
}

// "eos_token_id": one id or several.
absl::StatusOr<std::vector<int32_t>> ReadIds(const std::string& where, const Json& config,
                                             const char* key, int vocab_size) {
  std::vector<int32_t> ids;
  const Json* value = FindMember(config, key);
  if (value == nullptr) return ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
      return FileError(where, absl::StrCat(key, ": expected ids below ", vocab_size, ", found ",
                                           PrintableJson(*value)));
    }
    ids.push_back(static_cast<int32_t>(id.get<uint64_t>()));
  }
  return ids;
}

// The tokens around a text: what tokenizer_config.json says overrules tokenizer.json.
absl::Status ReadFlags(const ConfigReader& config, v1::TokenizerDescription* tokenizer) {
  TESSERA_ASSIGN_OR_RETURN(const auto bos, config.OptionalBool("add_bos_token"));
  TESSERA_ASSIGN_OR_RETURN(const auto eos, config.OptionalBool("add_eos_token"));
  if (bos) tokenizer->set_add_bos(*bos && tokenizer->has_bos_id());
  if (eos) tokenizer->set_add_eos(*eos && tokenizer->has_eos_id());
  return absl::OkStatus();
}

void SetNamedIds(const Json& tokenizer_config, const std::vector<int32_t>& config_bos,
                 const std::vector<int32_t>& config_eos, v1::TokenizerDescription* tokenizer) {
  const auto bos = SpecialTokenId(tokenizer_config, "bos_token", *tokenizer);
  const auto eos = SpecialTokenId(tokenizer_config, "eos_token", *tokenizer);
  const auto unk = SpecialTokenId(tokenizer_config, "unk_token", *tokenizer);
  const auto pad = SpecialTokenId(tokenizer_config, "pad_token", *tokenizer);
  if (bos) {
    tokenizer->set_bos_id(*bos);
  } else if (!tokenizer->has_bos_id() && !config_bos.empty()) {
    tokenizer->set_bos_id(config_bos[0]);
  }
  if (eos) {
    tokenizer->set_eos_id(*eos);
  } else if (!tokenizer->has_eos_id() && !config_eos.empty()) {
    tokenizer->set_eos_id(config_eos[0]);
  }
  if (unk) tokenizer->set_unk_id(*unk);
  if (pad) tokenizer->set_pad_id(*pad);
}

// A template of its own file; else the string in tokenizer_config.json, or the one named "default"
// of several.
absl::Status ReadChatTemplate(const std::string& folder, const Json& tokenizer_config,
                              v1::ModelDescription* description) {
  const std::string path = absl::StrCat(folder, "/chat_template.jinja");
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    TESSERA_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
    if (file->size() > kMaxConfigBytes) {
      return FileError(path, absl::StrCat("expected at most ", kMaxConfigBytes,
                                          " bytes, the file has ", file->size()));
    }
    const auto bytes = file->all();
    description->set_chat_template(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  const Json* value = FindMember(tokenizer_config, "chat_template");
  if (value == nullptr) return absl::OkStatus();
  if (value->is_array()) {
    const Json* chosen = nullptr;
    for (const Json& entry : *value) {
      const Json* name = FindMember(entry, "name");
      if (name != nullptr && *name == "default") chosen = FindMember(entry, "template");
    }
    if (chosen == nullptr) return absl::OkStatus();
    value = chosen;
  }
  if (!value->is_string()) {
    return FileError(absl::StrCat(folder, "/tokenizer_config.json"),
                     absl::StrCat("chat_template: expected a string, found ",
                                  PrintableJson(*value)));
  }
  description->set_chat_template(value->get<std::string>());
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadHfTokenizer(const std::string& folder, const Json& config,
                             v1::ModelDescription* description) {
  const int vocab_size = description->architecture().vocab_size();
  v1::TokenizerDescription* tokenizer = description->mutable_tokenizer();
  const std::string path = absl::StrCat(folder, "/tokenizer.json");
  const std::string config_path = absl::StrCat(folder, "/tokenizer_config.json");
  const std::string generation_path = absl::StrCat(folder, "/generation_config.json");

  TESSERA_ASSIGN_OR_RETURN(const Json root, ReadOptional(path, kMaxTokenizerBytes));
  if (!root.empty()) {
    TESSERA_RETURN_IF_ERROR(ParseTokenizerJson(path, root, vocab_size, tokenizer));
  }
  TESSERA_ASSIGN_OR_RETURN(const Json tokenizer_config,
                           ReadOptional(config_path, kMaxConfigBytes));
  TESSERA_ASSIGN_OR_RETURN(const Json generation, ReadOptional(generation_path, kMaxConfigBytes));

  const std::string model_where = absl::StrCat(folder, "/config.json");
  TESSERA_ASSIGN_OR_RETURN(const auto bos,
                           ReadIds(model_where, config, "bos_token_id", vocab_size));
  TESSERA_ASSIGN_OR_RETURN(auto eos,
                           ReadIds(generation_path, generation, "eos_token_id", vocab_size));
  if (eos.empty()) {
    TESSERA_ASSIGN_OR_RETURN(eos, ReadIds(model_where, config, "eos_token_id", vocab_size));
  }
  SetNamedIds(tokenizer_config, bos, eos, tokenizer);
  TESSERA_RETURN_IF_ERROR(ReadFlags(ConfigReader(config_path, tokenizer_config), tokenizer));
  SetStopIds(eos, tokenizer);
  return ReadChatTemplate(folder, tokenizer_config, description);
}

}  // namespace tessera::worker
