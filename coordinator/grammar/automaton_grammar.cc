#include "coordinator/grammar/automaton_grammar.h"

#include <utility>

#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/mask_walk.h"

namespace tessera::coordinator::grammar {
namespace {

class AutomatonConstraint : public TokenConstraint {
 public:
  explicit AutomatonConstraint(std::shared_ptr<const AutomatonGrammar> grammar)
      : grammar_(std::move(grammar)) {
    Stepper stepper(grammar_->automaton());
    MoveTo(stepper, stepper.Start());
  }

  std::unique_ptr<TokenConstraint> Clone() const override {
    return std::unique_ptr<TokenConstraint>(new AutomatonConstraint(*this));
  }

  const std::string& AllowedMask() override {
    if (mask_ == nullptr) {
      mask_ = is_finished_ ? grammar_->vocabulary().shared_stop_mask()
                           : grammar_->Mask(position_, is_complete_);
    }
    return *mask_;
  }

  bool Accept(int32_t token) override {
    const TokenTrie& vocabulary = grammar_->vocabulary();
    if (!vocabulary.Contains(token)) return false;
    if (vocabulary.IsStop(token)) return AcceptStop();
    // A mask that was cut short decides; where none was asked for, the bytes do.
    if (mask_ != nullptr && ((*mask_)[token / 8] >> (token % 8) & 1) == 0) return false;
    const std::string& bytes = vocabulary.bytes(token);
    if (bytes.empty() || is_finished_) return false;
    Stepper stepper(grammar_->automaton());
    ConfigurationSet set = stepper.Import(position_);
    for (const char byte : bytes) {
      set = stepper.Step(set, static_cast<uint8_t>(byte));
      if (set.is_dead()) return false;
    }
    MoveTo(stepper, set);
    return true;
  }

 private:
  AutomatonConstraint(const AutomatonConstraint&) = default;

  bool AcceptStop() {
    if (!is_complete_) return false;
    if (!is_finished_) mask_ = nullptr;
    is_finished_ = true;
    return true;
  }

  void MoveTo(const Stepper& stepper, const ConfigurationSet& set) {
    position_ = stepper.Export(set);
    is_complete_ = set.is_complete;
    mask_ = nullptr;
  }

  std::shared_ptr<const AutomatonGrammar> grammar_;
  Position position_;
  bool is_complete_ = false;  // a stop token may come next
  bool is_finished_ = false;  // one came
  std::shared_ptr<const std::string> mask_;  // at the position, once asked for
};

std::string Union(const std::string& a, const std::string& b) {
  std::string both = a;
  for (size_t i = 0; i < both.size(); ++i) both[i] = static_cast<char>(both[i] | b[i]);
  return both;
}

// Complete or not is part of a mask's key: one more number, no state's.
constexpr uint32_t kCompleteMark = ~uint32_t{0};

}  // namespace

std::unique_ptr<TokenConstraint> AutomatonGrammar::Start() const {
  return std::make_unique<AutomatonConstraint>(
      std::static_pointer_cast<const AutomatonGrammar>(shared_from_this()));
}

std::shared_ptr<const std::string> AutomatonGrammar::Mask(const Position& position,
                                                          bool is_complete) const {
  const Position looked_at = Representative(position);
  Position key = looked_at;
  if (is_complete) key.push_back(kCompleteMark);
  if (auto known = shared_->masks.Find(key)) return known;
  std::string mask = WalkMask(automaton(), *vocabulary_, looked_at);
  if (is_complete) mask = Union(mask, vocabulary_->stop_mask());
  return shared_->masks.Insert(key, std::make_shared<const std::string>(std::move(mask)));
}

// The position with every state replaced by the one that stands for it. Should two configurations
// fall into one, the position itself: a set cut at its bound may depend on how many there are.
Position AutomatonGrammar::Representative(const Position& position) const {
  Stepper stepper(automaton());
  Position replaced = position;
  for (size_t i = 0; i < replaced.size();) {
    replaced[i] = automaton().state(replaced[i]).representative;
    const size_t frame_count = replaced[i + 1];
    for (size_t k = i + 2; k < i + 2 + frame_count; ++k) {
      replaced[k] = automaton().state(replaced[k]).representative;
    }
    i += 2 + frame_count;
  }
  if (replaced == position) return position;
  const ConfigurationSet set = stepper.Import(replaced);
  const absl::flat_hash_set<Configuration> distinct(set.configurations.begin(),
                                                    set.configurations.end());
  return distinct.size() == set.configurations.size() ? replaced : position;
}

}  // namespace tessera::coordinator::grammar
