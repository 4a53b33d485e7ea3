#include "coordinator/engine/served_model.h"

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/check_description.h"

namespace tessera::coordinator {
namespace {

absl::Status CheckWorldSize(const v1::Hello& hello, const Layout& layout) {
  const int expected = layout.tensor_parallel * layout.pipeline_parallel;
  if (hello.world_size() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the group has ", hello.world_size(),
                                                 " ranks; expected ", expected, " (",
                                                 layout.tensor_parallel, " tensor-parallel x ",
                                                 layout.pipeline_parallel, " pipeline stages)"));
}

// Templates write bos_token and eos_token by name; what they are is the tokenizer's to say.
ChatTemplateSource TemplateOf(const v1::ModelDescription& model, const Tokenizer& tokenizer) {
  ChatTemplateSource source;
  source.jinja = model.chat_template();
  const v1::TokenizerDescription& description = model.tokenizer();
  if (description.has_bos_id()) source.bos_text = tokenizer.TokenBytes(description.bos_id());
  if (description.has_eos_id()) source.eos_text = tokenizer.TokenBytes(description.eos_id());
  return source;
}

absl::Status AddText(const std::vector<std::shared_ptr<const ServedModel>>& known,
                     ServedModel& model) {
  for (const auto& other : known) {
    if (!IsSameModel(*other, model)) continue;
    model.tokenizer = other->tokenizer;
    model.grammar = other->grammar;
    model.chat = other->chat;
    return absl::OkStatus();
  }
  const v1::TokenizerDescription& description = model.description.tokenizer();
  if (description.kind() == v1::TOKENIZER_KIND_UNSPECIFIED) return absl::OkStatus();
  TESSERA_ASSIGN_OR_RETURN(model.tokenizer, Tokenizer::Create(description));
  model.grammar = std::make_shared<const ModelGrammar>(
      model.tokenizer.get(),
      std::vector<int32_t>(description.stop_ids().begin(), description.stop_ids().end()),
      model.description.architecture().vocab_size());
  model.chat = ChatRenderer::Create(TemplateOf(model.description, *model.tokenizer));
  return absl::OkStatus();
}

// Equal for equal descriptions, within this process.
size_t FingerprintOf(const v1::ModelDescription& description) {
  return std::hash<std::string>()(description.SerializeAsString());
}

std::string NameOf(const v1::Hello& hello, const std::string& served_name) {
  if (!hello.served_model_name().empty()) return hello.served_model_name();
  return served_name.empty() ? hello.model().name() : served_name;
}

}  // namespace

bool IsSameModel(const ServedModel& a, const ServedModel& b) {
  return a.fingerprint == b.fingerprint;
}

absl::StatusOr<std::shared_ptr<const ServedModel>> MakeServedModel(
    const v1::Hello& hello, const Layout& layout, const std::string& served_name,
    const std::vector<std::shared_ptr<const ServedModel>>& known) {
  TESSERA_RETURN_IF_ERROR(model::CheckDescription(hello.model()));
  auto model = std::make_shared<ServedModel>();
  model->description = hello.model();
  model->time_sliced_stages = hello.time_sliced_stages();
  model->fingerprint = FingerprintOf(model->description);
  model->name = NameOf(hello, served_name);
  Layout with_memory = layout;
  if (hello.free_memory_bytes_size() == layout.tensor_parallel * layout.pipeline_parallel) {
    with_memory.free_memory_bytes.assign(hello.free_memory_bytes().begin(),
                                         hello.free_memory_bytes().end());
  }
  TESSERA_ASSIGN_OR_RETURN(model->plan, PlanShards(model->description, with_memory));
  TESSERA_RETURN_IF_ERROR(CheckWorldSize(hello, layout));
  TESSERA_RETURN_IF_ERROR(AddText(known, *model));
  return model;
}

}  // namespace tessera::coordinator
