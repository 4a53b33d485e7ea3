#include "benchmarks/serving/prompts.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/str_join.h"
#include "proto/base/status_macros.h"

namespace tessera::benchmarks {
namespace {

// Common enough to be one token, with the space before it, in nearly every vocabulary.
constexpr const char* kWords[] = {
    "able",     "about",    "above",   "across",   "after",    "again",    "against",  "air",
    "all",      "almost",   "along",   "always",   "among",    "animal",   "answer",   "area",
    "around",   "art",      "ask",     "back",     "ball",     "bank",     "base",     "beautiful",
    "because",  "become",   "bed",     "before",   "begin",    "behind",   "best",     "better",
    "between",  "big",      "bird",    "black",    "blue",     "board",    "boat",     "body",
    "book",     "both",     "box",     "boy",      "bring",    "brother",  "brown",    "build",
    "business", "call",     "came",    "car",      "care",     "carry",    "cause",    "center",
    "change",   "check",    "child",   "city",     "class",    "clear",    "close",    "cold",
    "color",    "come",     "common",  "company",  "complete", "computer", "cost",     "country",
    "course",   "cross",    "cut",     "dark",     "day",      "deep",     "develop",  "different",
    "direct",   "dog",      "door",    "down",     "draw",     "drive",    "dry",      "during",
    "each",     "early",    "earth",   "east",     "eat",      "end",      "energy",   "enough",
    "even",     "ever",     "every",   "example",  "eye",      "face",     "fact",     "family",
    "far",      "farm",     "fast",    "father",   "feel",     "few",      "field",    "figure",
    "fill",     "final",    "find",    "fire",     "first",    "fish",     "five",     "floor",
    "follow",   "food",     "foot",    "force",    "form",     "found",    "four",     "free",
    "friend",   "front",    "full",    "game",     "garden",   "general",  "girl",     "give",
    "glass",    "gold",     "good",    "great",    "green",    "ground",   "group",    "grow",
    "half",     "hand",     "happen",  "hard",     "head",     "hear",     "heart",    "heat",
    "heavy",    "help",     "high",    "hold",     "home",     "horse",    "hot",      "hour",
    "house",    "human",    "idea",    "inside",   "interest", "island",   "keep",     "kind",
    "king",     "know",     "land",    "language", "large",    "last",     "late",     "laugh",
    "law",      "lead",     "learn",   "leave",    "left",     "less",     "letter",   "level",
    "life",     "light",    "line",    "list",     "little",   "live",     "long",     "look",
    "love",     "low",      "machine", "main",     "map",      "mark",     "market",   "matter",
    "measure",  "meet",     "member",  "method",   "middle",   "mind",     "minute",   "money",
    "month",    "moon",     "morning", "most",     "mother",   "mountain", "move",     "music",
    "name",     "nature",   "near",    "need",     "never",    "new",      "next",     "night",
    "north",    "note",     "nothing", "notice",   "number",   "object",   "ocean",    "office",
    "often",    "oil",      "old",     "once",     "only",     "open",     "order",    "other",
    "over",     "own",      "page",    "paper",    "part",     "party",    "pass",     "past",
    "pattern",  "pay",      "people",  "person",   "picture",  "piece",    "place",    "plain",
    "plan",     "plant",    "play",    "point",    "poor",     "position", "possible", "power",
    "present",  "problem",  "produce", "program",  "public",   "put",      "question", "quick",
    "rain",     "reach",    "read",    "ready",    "real",     "reason",   "record",   "red",
    "rest",     "result",   "rich",    "right",    "river",    "road",     "rock",     "room",
    "round",    "rule",     "run",     "same",     "sand",     "school",   "science",  "sea",
    "second",   "see",      "sense",   "serve",    "set",      "several",  "shape",    "ship",
    "short",    "show",     "side",    "simple",   "sing",     "single",   "size",     "sleep",
    "slow",     "small",    "snow",    "social",   "some",     "song",     "soon",     "sound",
    "south",    "space",    "special", "speed",    "spring",   "stand",    "star",     "start",
    "state",    "stay",     "step",    "still",    "stone",    "stop",     "story",    "street",
    "strong",   "study",    "such",    "summer",   "sun",      "sure",     "surface",  "system",
    "table",    "take",     "talk",    "teach",    "team",     "tell",     "ten",      "test",
    "thing",    "think",    "third",   "those",    "though",   "thought",  "three",    "time",
    "today",    "together", "top",     "toward",   "town",     "travel",   "tree",     "true",
    "try",      "turn",     "under",   "unit",     "until",    "use",      "usual",    "very",
    "view",     "voice",    "walk",    "wall",     "want",     "war",      "warm",     "watch",
    "water",    "wave",     "week",    "weight",   "well",     "west",     "wheel",    "white",
    "whole",    "wide",     "wind",    "window",   "winter",   "wish",     "wonder",   "wood",
    "word",     "work",     "world",   "write",    "year",     "yellow",   "young",    "your"};

enum Stream : uint64_t { kPrefixStream, kPromptStream, kOutputStream };

uint64_t Fnv1a(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

}  // namespace

absl::StatusOr<PromptSource> PromptSource::Create(const Workload& workload, uint64_t seed,
                                                  double tokens_per_word) {
  TESSERA_ASSIGN_OR_RETURN(auto prompt_tokens, LengthDistribution::Parse(workload.prompt_tokens));
  TESSERA_ASSIGN_OR_RETURN(auto output_tokens, LengthDistribution::Parse(workload.output_tokens));
  PromptSource source(std::move(prompt_tokens), std::move(output_tokens));
  source.seed_ = seed;
  source.workload_key_ = Fnv1a(workload.name);
  source.tokens_per_word_ = tokens_per_word;
  source.shared_prefix_tokens_ = workload.shared_prefix_tokens;
  source.num_prefixes_ = workload.num_prefixes;
  return source;
}

std::string PromptSource::Words(Random& random, int tokens) const {
  const int64_t count = std::max<int64_t>(std::llround(tokens / tokens_per_word_), 1);
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += kWords[random.Below(std::size(kWords))];
  }
  return text;
}

Turn PromptSource::MakeTurn(Phase phase, int64_t conversation, int turn) const {
  const auto key = [&](Stream stream) {
    return Random({seed_, workload_key_, stream, static_cast<uint64_t>(phase),
                   static_cast<uint64_t>(conversation), static_cast<uint64_t>(turn)});
  };
  Turn made;
  if (turn == 0 && shared_prefix_tokens_ > 0) {
    // Of no workload: two tenants may share a prefix, and whether their caches do is worth seeing.
    Random random({seed_, kPrefixStream, static_cast<uint64_t>(conversation % num_prefixes_)});
    made.prefix = Words(random, shared_prefix_tokens_);
    made.prompt_tokens = shared_prefix_tokens_;
  }
  Random prompt_random = key(kPromptStream);
  const int own_tokens = prompt_tokens_.Draw(prompt_random);
  made.text = Words(prompt_random, own_tokens);
  made.prompt_tokens += own_tokens;
  Random output_random = key(kOutputStream);
  made.output_tokens = output_tokens_.Draw(output_random);
  return made;
}

std::string CalibrationText() { return absl::StrJoin(kWords, " "); }
int CalibrationWords() { return static_cast<int>(std::size(kWords)); }

}  // namespace tessera::benchmarks
