#!/bin/sh
# The objects of an instruction set must define no function outside its namespace: the linker might
# take that copy for everybody, and a machine without the instruction set would crash on it. Nor may
# they bring start-up code (kernels/cpu/ops.h).
# usage: isa_symbols_test.sh ISA OBJECT...
isa=$1
shift
functions=$(nm -C --defined-only "$@" | grep -E ' [TtWiu] ') || exit 1
strangers=$(echo "$functions" | grep -v -E "tessera::kernels::(\(anonymous namespace\)::)?(cpu::$isa::|HalfToFloat|BFloat16ToFloat|FloatFromBits)" | grep -v -E ' t (asan\.|_sub_[DI]_)')
if [ -n "$strangers" ]; then
  echo "defined for $isa outside of its namespace:"
  echo "$strangers"
  exit 1
fi
