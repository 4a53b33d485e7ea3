// What a structured output may go on with. Pure; one object per choice, owned by its sequence.
//
//   chunk.logits_state.allowed_mask = constraint->AllowedMask();
//   ... the group samples a token ...
//   if (!constraint->Accept(token)) → the group lied
#ifndef TESSERA_COORDINATOR_SCHEDULE_TOKEN_CONSTRAINT_H_
#define TESSERA_COORDINATOR_SCHEDULE_TOKEN_CONSTRAINT_H_

#include <cstdint>
#include <memory>
#include <string>

namespace tessera::coordinator {

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // In the same state, and independent from then on: the other choices of a request.
  virtual std::unique_ptr<TokenConstraint> Clone() const = 0;

  // Bit i % 8 of byte i / 8: token i may come next; ceil(vocab_size / 8) bytes, at least one bit
  // set. Stop tokens are allowed exactly where the output is complete. Valid until Accept.
  virtual const std::string& AllowedMask() = 0;

  // Goes on behind `token`. False, and nothing changes, when the mask did not allow it.
  virtual bool Accept(int32_t token) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_TOKEN_CONSTRAINT_H_
