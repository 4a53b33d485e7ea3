#include "coordinator/text/python_strip.h"

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

TEST(PythonStrip, StripsWhatPythonStrips) {
  EXPECT_EQ(PythonStrip(""), "");
  EXPECT_EQ(PythonStrip(" \t\r\n\v\f"), "");
  EXPECT_EQ(PythonStrip("\u00A0\u3000\u0085x y\u2028\x1C "), "x y");
  EXPECT_EQ(PythonStrip("\u200Bx\u180E"), "\u200Bx\u180E");
  EXPECT_EQ(StripLeft("\n\n a\n", '\n'), " a\n");
  EXPECT_EQ(StripRight("\n\n a\n", '\n'), "\n\n a");
}

}  // namespace
}  // namespace tessera::coordinator
