// The models that the engine's tests run: tiny checkpoints with golden logits, and the default one.
#ifndef TESSERA_TESTS_WORKER_ENGINE_TEST_MODELS_H_
#define TESSERA_TESTS_WORKER_ENGINE_TEST_MODELS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/plan/shard_planner.h"
#include "tessera/v1/plan.pb.h"
#include "tests/worker/engine/generation_script.h"
#include "tests/worker/engine/layout_answers.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

// Built with a sanitizer: the same arithmetic takes many times as long, so that tests whose point is
// the numbers of a whole model leave them to the release preset.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// tests/golden/tiny_models/<name>. Aborts with a message when it does not open.
std::unique_ptr<ModelFile> OpenTinyModel(const std::string& name);
// tests/golden/tiny_gguf/<name>.gguf: the same checkpoint in the other format.
std::unique_ptr<ModelFile> OpenTinyGguf(const std::string& name);

// prompts.json and logits.bin of that folder.
struct TinyGolden {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::vector<float>> logits;  // per prompt, (tokens, vocab)
};
TinyGolden LoadTinyGolden(const std::string& name);

// $TESSERA_TEST_MODEL or the quickstart's cache; nullopt, said loudly, when there is none.
std::optional<std::string> DefaultModelPath();

// The plan of tp × pp even ranks, or of `layout`. Aborts with a message when there is none.
v1::ShardPlan PlanOf(const ModelFile& file, int tp, int pp);
v1::ShardPlan PlanOf(const ModelFile& file, const coordinator::Layout& layout);

// The results of the requests on a group of threads. Aborts with a message when the group fails.
std::vector<GenerationResult> Generate(const ModelFile& file, const v1::ShardPlan& plan,
                                       const std::vector<GenerationRequest>& requests,
                                       const GenerationOptions& options = {});

// The largest |a - b| over the largest |b|; infinity when the sizes differ or a value is not
// finite. This is the "relative" of every tolerance here: logits near zero have no relative
// precision of their own, as they are sums of terms of the size of the largest.
double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_ENGINE_TEST_MODELS_H_
