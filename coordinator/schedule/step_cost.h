// How long a step takes, learned from the steps that were: base + per_decode × decodes +
// per_prefill × prompt tokens + per_attended × what those attend to, where that explains more. With
// it the scheduler cuts prompt chunks so that they stretch the running streams' steps by a bounded
// factor, behind thousands of tokens too.
//
// Exponentially forgetting least squares, non-negative; robust against single outliers (a step that
// waited for the machine). Pure, deterministic.
//
//   cost.Observe({.decodes = 8, .prefill_tokens = 0}, 21'000);
//   int most = cost.PromptTokens(cost.PrefillMicros(8, 2.0), 0);  // of a prompt beside 8 decodes
#ifndef TESSERA_COORDINATOR_SCHEDULE_STEP_COST_H_
#define TESSERA_COORDINATOR_SCHEDULE_STEP_COST_H_

#include <cstdint>
#include <cstdlib>

#include "coordinator/schedule/scheduling_policy.h"

namespace tessera::coordinator {

struct StepShape {
  int decodes = 0;
  int prefill_tokens = 0;
  int64_t attended = 0;  // Attended, summed over the prompts' chunks
};

// Tokens attended to by `tokens` of them behind `context` others: by each, those before and itself.
constexpr int64_t Attended(int64_t tokens, int64_t context) {
  return tokens * context + tokens * (tokens + 1) / 2;
}

class StepCost {
 public:
  void Observe(const StepShape& shape, int64_t micros);

  bool known() const;                                  // enough has been seen to predict
  double PredictMicros(const StepShape& shape) const;  // 0 while nothing is known

  // The time that prompts may add to a step with `decodes` decodes so that it takes at most
  // `stretch` times as long as without them. Infinite without decodes or while nothing is known.
  double PrefillMicros(int decodes, double stretch) const;
  // What `tokens` of a prompt behind `context` others add.
  double PromptMicros(int tokens, int context) const;
  // So many that what every step costs is an eighth of what they add; 0 while nothing is known.
  int WorthAStep() const;
  // The most of them that add no more than `micros`; INT_MAX when that is infinite.
  int PromptTokens(double micros, int context) const;

 private:
  static constexpr int kTerms = 4;  // 1, decodes, prompt tokens, attended
  static constexpr int kDecodeKinds = 5;
  static constexpr int kPrefillKinds = 4;

  // Sums over the steps of one kind, the older ones faded. Kinds fade apart, so that thousands of
  // steps without prompts do not make it forget what prompts cost.
  struct Moments {
    double weight = 0;  // in steps
    double terms[kTerms][kTerms] = {};
    double products[kTerms] = {};

    void Scale(double factor);
    void Add(const StepShape& shape, double micros, double factor);
  };

  // How much a step counts, by its relative error: little when it is far off, unless several in a
  // row are off in the same direction. That is no outlier but a machine that has changed.
  struct Trust {
    double deviation = 0;  // mean relative error
    int streak = 0;        // of errors too far off; its sign is theirs

    double Weigh(double error);
    bool changed() const { return std::abs(streak) > policy::kChangedStreak; }
  };

  void Fit();

  Moments kinds_[kDecodeKinds][kPrefillKinds];
  Trust trust_[2];                    // of steps without and with prompt tokens
  double coefficients_[kTerms] = {};  // microseconds
  int64_t observed_ = 0;
  bool seen_decodes_ = false;  // a step without prompt tokens
  bool seen_prefill_ = false;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_STEP_COST_H_
