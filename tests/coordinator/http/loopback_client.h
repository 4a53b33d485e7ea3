// A raw HTTP client over one blocking socket to 127.0.0.1, for saying things that no proper client
// says. Every wait ends after kPatience, and the test fails.
//
//   LoopbackClient client(port);
//   client.Send("GET /health HTTP/1.1\r\n\r\n");
//   LoopbackResponse response = client.Read();
#ifndef TESSERA_TESTS_COORDINATOR_HTTP_LOOPBACK_CLIENT_H_
#define TESSERA_TESTS_COORDINATOR_HTTP_LOOPBACK_CLIENT_H_

#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace tessera::testing {

struct LoopbackResponse {
  int status = 0;  // 0: the connection ended before a whole head
  std::map<std::string, std::string> headers = {};  // names in small letters
  std::string head = {};
  std::string body = {};  // without the chunks' framing
  bool complete = false;
};

class LoopbackClient {
 public:
  static constexpr int kPatienceSeconds = 30;

  // receive_buffer: SO_RCVBUF, for a client that reads little; 0: the system's.
  explicit LoopbackClient(int port, int receive_buffer = 0);
  ~LoopbackClient() { Close(); }
  LoopbackClient(const LoopbackClient&) = delete;
  LoopbackClient& operator=(const LoopbackClient&) = delete;

  bool connected() const { return socket_ >= 0; }
  bool Send(absl::string_view bytes);  // false: the server closed meanwhile
  LoopbackResponse Read(bool head_only = false);
  LoopbackResponse Get(absl::string_view path, absl::string_view headers = "");
  LoopbackResponse Post(absl::string_view path, absl::string_view body,
                        absl::string_view headers = "");
  // Of a streamed body: at least one more byte of it (of what Read of the head left), "" at its end.
  std::string ReadChunk();
  bool ReadEnd();      // nothing more comes and the server closed
  void CloseSend();    // half-closes
  void Close();
  void Reset();        // closes with RST

 private:
  bool Fill();  // more bytes into buffer_; false at the end
  bool FillUntil(absl::string_view mark, size_t* at);

  int socket_ = -1;
  std::string buffer_;
};

// Of both ends in one process.
void AllowManySockets();

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_HTTP_LOOPBACK_CLIENT_H_
