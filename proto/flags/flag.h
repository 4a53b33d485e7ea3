// One flag of a program, declared once: its name, what it takes, what holds without it, what it
// does. Help, checks, error texts, the environment variable and deploy/flags.md follow from it.
//
//   constexpr Flag kPort = {.name = "--port",
//                           .help = "HTTP; 0: chosen by the system",
//                           .range = kPorts};
//   Declare(app, kPort, options.port);   // declare.h; the default is what options.port holds
#ifndef TESSERA_PROTO_FLAGS_FLAG_H_
#define TESSERA_PROTO_FLAGS_FLAG_H_

#include <limits>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/base/range.h"

namespace tessera::flags {

inline constexpr int kMostInt = std::numeric_limits<int>::max();
inline constexpr Range kPorts = {0, 65535};
inline constexpr Range kFromOne = {1, kMostInt};
inline constexpr Range kWaits = {0, 1e9};  // seconds

struct Flag {
  // "--port"; "-o,--output": with a letter; "--x,!--no-x": a switch that can be turned off;
  // "input": without a name on the command line.
  absl::string_view name;
  absl::string_view help;
  std::optional<Range> range = std::nullopt;  // of a number, or of each in a list
  absl::Span<const absl::string_view> choices = {};
  bool choices_checked = true;   // no: whoever uses the value knows better which there are
  absl::string_view unit = "";   // "seconds", "tokens"
  absl::string_view value = "";  // what stands behind the name, where nothing above says it: "PATH"
  // What holds without the flag, where the variable's own value does not say it.
  absl::string_view otherwise = "";
  bool environment = true;  // TESSERA_... stands for it, too
};

// "--max-model-len" → "TESSERA_MAX_MODEL_LEN"; "-o,--output" → "TESSERA_OUTPUT".
std::string EnvironmentName(absl::string_view name);

// "0.1 .. 86400 seconds", "auto, cpu or cuda", "PATH"; empty: nothing says it.
std::string ValueText(const Flag& flag);

}  // namespace tessera::flags

#endif  // TESSERA_PROTO_FLAGS_FLAG_H_
