// main of a suite built against this folder's gtest.h.
#include "gtest/gtest.h"

int main(int argc, char** argv) { return testing::RunAll(argc, argv); }
