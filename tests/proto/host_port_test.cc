#include "proto/base/host_port.h"

#include <gtest/gtest.h>

namespace tessera::wire {
namespace {

TEST(HostPort, BracketsAroundIpv6Only) {
  EXPECT_EQ(HostPort("127.0.0.1", 50051), "127.0.0.1:50051");
  EXPECT_EQ(HostPort("node7.example", 0), "node7.example:0");
  EXPECT_EQ(HostPort("::1", 80), "[::1]:80");
  EXPECT_EQ(HostPort("::", 80), "[::]:80");
  EXPECT_EQ(HostPort("[::1]", 80), "[::1]:80");
}

}  // namespace
}  // namespace tessera::wire
