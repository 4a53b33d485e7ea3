// Appends JSON to a string, in the order of the calls. For answers that are written once per token:
// no tree is built. Not thread-safe.
//
//   std::string out;
//   JsonWriter(out).Object([&](JsonWriter& w) {
//     w.Key("index").Int(0);
//     w.Key("text").String("a\n");
//   });                                             // {"index":0,"text":"a\n"}
#ifndef TESSERA_COORDINATOR_OPENAI_JSON_WRITER_H_
#define TESSERA_COORDINATOR_OPENAI_JSON_WRITER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace tessera::coordinator {

class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}

  template <typename Members>
  void Object(Members members) {
    Open('{');
    members(*this);
    Close('}');
  }
  template <typename Elements>
  void Array(Elements elements) {
    Open('[');
    elements(*this);
    Close(']');
  }
  JsonWriter& Key(absl::string_view key);

  void String(absl::string_view text);  // what is not UTF-8 becomes U+FFFD
  void Int(int64_t value);
  void Float(float value);  // shortest that reads back the same; -9999 for what JSON cannot say
  void Bool(bool value);
  void Null();

 private:
  void Comma();
  void Open(char bracket);
  void Close(char bracket);

  std::string& out_;
  bool first_ = true;  // no comma before the next element or member
};

// The string with quotes and escapes, alone.
std::string JsonQuoted(absl::string_view text);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_OPENAI_JSON_WRITER_H_
