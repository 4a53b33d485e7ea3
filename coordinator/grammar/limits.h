// Every bound of structured output in one place. They keep compiling below 50 ms and a mask below
// tens of milliseconds whatever a client sends; a source beyond them is refused by name.
#ifndef TESSERA_COORDINATOR_GRAMMAR_LIMITS_H_
#define TESSERA_COORDINATOR_GRAMMAR_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace tessera::coordinator::grammar {

// Sources.
inline constexpr size_t kMaxSourceBytes = 64 << 10;
inline constexpr int kMaxChoices = 1024;
inline constexpr int kMaxSchemaNesting = 64;        // brackets in a schema's text
inline constexpr int kMaxSchemaMembers = 1024;      // of one object: looking one up is linear
inline constexpr size_t kMaxNameCharacters = 256;   // that a key not named is compared by
inline constexpr int64_t kMaxSchemaWork = 40'000;   // JSON values visited or copied
inline constexpr int kMaxRegexGroups = 64;          // one inside the other
inline constexpr int kMaxRepeatCount = 100'000;     // {m,n}, minLength, maxItems ...

// What a source becomes.
inline constexpr int kMaxNodes = 100'000;
inline constexpr int64_t kMaxLeafWeight = 200'000;  // about the states that words and classes need
inline constexpr int kMaxNodeDepth = 1000;
inline constexpr int kMaxStates = 50'000;
inline constexpr int64_t kMaxEdges = 200'000;

// A copied body larger than this becomes a call, so that {1000}{1000} costs 2000 states.
inline constexpr int64_t kMaxInlineWeight = 64;

// While generating. A set of configurations beyond the bound loses its last ones: some matching
// outputs can then not be reached, but what is reached still matches.
inline constexpr int kMaxStackDepth = 64;
inline constexpr size_t kMaxConfigurations = 512;
inline constexpr int64_t kMaxMaskWork = 4'000'000;
inline constexpr size_t kMaxCachedMaskBytes = 2 << 20;  // per compiled grammar
inline constexpr size_t kMaxTokenBytes = 512;           // longer tokens are never allowed
inline constexpr size_t kMaxCachedGrammars = 16;        // per vocabulary

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_LIMITS_H_
