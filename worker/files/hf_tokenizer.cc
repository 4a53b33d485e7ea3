#include "worker/files/hf_tokenizer.h"

namespace tessera::worker {

absl::Status ReadHfTokenizer(const std::string&, const Json&, v1::ModelDescription* description) {
  description->mutable_tokenizer();
  return absl::OkStatus();
}

}  // namespace tessera::worker
