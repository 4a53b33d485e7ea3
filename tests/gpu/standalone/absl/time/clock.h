#include "tests/gpu/standalone/tiny_absl.h"
