#include "tests/coordinator/http/loopback_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tessera::testing {

LoopbackClient::LoopbackClient(int port, int receive_buffer) {
  socket_ = socket(AF_INET, SOCK_STREAM, 0);
  timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (receive_buffer > 0) {
    setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Close();
}

bool LoopbackClient::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool LoopbackClient::Fill() {
  char bytes[16384];
  const ssize_t n = recv(socket_, bytes, sizeof(bytes), 0);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    ADD_FAILURE() << "the server said nothing for " << kPatienceSeconds << " s; so far: " << buffer_;
  }
  if (n <= 0) return false;
  buffer_.append(bytes, static_cast<size_t>(n));
  return true;
}

bool LoopbackClient::FillUntil(absl::string_view mark, size_t* at) {
  while ((*at = buffer_.find(mark.data(), 0, mark.size())) == std::string::npos) {
    if (!Fill()) return false;
  }
  return true;
}

LoopbackResponse LoopbackClient::Read(bool head_only) {
  LoopbackResponse response;
  size_t end = 0;
  if (!FillUntil("\r\n\r\n", &end)) return response;
  response.head = buffer_.substr(0, end + 4);
  buffer_.erase(0, end + 4);
  const std::vector<std::string> lines = absl::StrSplit(response.head, "\r\n");
  response.status = std::atoi(lines[0].substr(9, 3).c_str());
  for (const std::string& line : lines) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    response.headers[absl::AsciiStrToLower(line.substr(0, colon))] = line.substr(colon + 2);
  }
  if (head_only || response.status == 204) {
    response.complete = true;
    return response;
  }
  const auto length = response.headers.find("content-length");
  if (length != response.headers.end()) {
    const size_t bytes = std::strtoull(length->second.c_str(), nullptr, 10);
    while (buffer_.size() < bytes && Fill()) {
    }
    response.complete = buffer_.size() >= bytes;
    response.body = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
  } else if (response.headers.count("transfer-encoding") > 0) {
    std::string chunk;
    while (!(chunk = ReadChunk()).empty()) response.body += chunk;
    response.complete = socket_ >= 0;
  } else if (response.status != 100) {
    while (Fill()) {
    }
    response.body.swap(buffer_);
    response.complete = true;
  }
  return response;
}

std::string LoopbackClient::ReadChunk() {
  size_t line = 0;
  if (!FillUntil("\r\n", &line)) {
    Close();
    return "";
  }
  const size_t bytes = std::strtoull(buffer_.c_str(), nullptr, 16);
  const size_t whole = line + 2 + bytes + 2;
  while (buffer_.size() < whole) {
    if (!Fill()) {
      Close();
      return "";
    }
  }
  std::string chunk = buffer_.substr(line + 2, bytes);
  buffer_.erase(0, whole);
  return chunk;
}

LoopbackResponse LoopbackClient::Get(absl::string_view path, absl::string_view headers) {
  Send(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n"));
  return Read();
}

LoopbackResponse LoopbackClient::Post(absl::string_view path, absl::string_view body,
                                      absl::string_view headers) {
  Send(absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nContent-Length: ", body.size(), "\r\n",
                    headers, "\r\n", body));
  return Read();
}

bool LoopbackClient::ReadEnd() { return buffer_.empty() && !Fill() && buffer_.empty(); }

void LoopbackClient::CloseSend() { shutdown(socket_, SHUT_WR); }

void LoopbackClient::Close() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

void LoopbackClient::Reset() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  Close();
}

void AllowManySockets() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace tessera::testing
