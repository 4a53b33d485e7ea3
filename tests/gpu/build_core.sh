# Sourced by tests/gpu.sh and benchmarks/gpu.sh: builds programs from kernels/ on a machine that has
# CUDA, g++ and nothing else: no CMake, no packages, no network. Abseil and GoogleTest are those
# installed, else the few lines of tests/gpu/standalone.
#
#   core_begin            finds the tools, makes build/gpu; sets NVCC, CUDA, OUT
#   core_compile          kernels/ without its cpu/, for this machine's card, side by side
#   core_program NAME SOURCE...   links OUT/NAME from them
core_begin() {
  NVCC=$(command -v nvcc || true)
  [ -n "$NVCC" ] || NVCC=/usr/local/cuda/bin/nvcc
  [ -x "$NVCC" ] || { echo "error: no nvcc in PATH or /usr/local/cuda/bin" >&2; return 1; }
  command -v g++ >/dev/null || { echo "error: no g++" >&2; return 1; }
  CUDA=$(dirname "$(dirname "$(readlink -f "$NVCC")")")
  OUT=$PWD/build/gpu
  JOBS=${TESSERA_BUILD_JOBS:-$(nproc)}
  # The card's architecture; TESSERA_GPU_ARCH=sm_90a builds where there is no card.
  ARCH=${TESSERA_GPU_ARCH:-native}
  INCLUDES=(-I. -isystem "$CUDA/include")
  LIBRARIES=()
  if echo '#include "absl/status/statusor.h"' | g++ -x c++ -std=c++20 -fsyntax-only - 2>/dev/null &&
     [ -z "${TESSERA_GPU_STANDALONE:-}" ]; then
    echo "Abseil: installed"
    OBJECT_DIR=$OUT/objects-$ARCH
    LIBRARIES+=($(pkg-config --libs absl_status absl_statusor absl_strings))
  else
    echo "Abseil: tests/gpu/standalone"
    OBJECT_DIR=$OUT/objects-$ARCH-standalone
    INCLUDES=(-Itests/gpu/standalone "${INCLUDES[@]}")
  fi
  LIBRARIES+=(-L"$CUDA/lib64" -L"$CUDA/lib" -Wl,-rpath,"$CUDA/lib64" -Wl,-rpath,"$CUDA/lib"
              -lcublasLt -lcudart -lpthread)
  mkdir -p "$OBJECT_DIR"
}

# core_object SOURCE [flags...]: in the background, unless its object is newer than the tree.
core_object() {
  local source=$1 object
  shift
  object=$OBJECT_DIR/$(echo "$source $*" | tr -c 'A-Za-z0-9._\n' '_').o
  OBJECTS+=("$object")
  [ "$object" -nt "$source" ] && [ "$object" -nt "$STAMP" ] && return
  while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || return 1; done
  rm -f "$object"  # an old one must not stand for one that does not compile
  if [[ $source == *.cu ]]; then
    "$NVCC" -arch="$ARCH" -std=c++20 -O3 --expt-relaxed-constexpr -lineinfo "${INCLUDES[@]}" "$@" \
      -c "$source" -o "$object" &
  else
    g++ -std=c++20 -O2 -g1 -fno-math-errno -ffp-contract=off "${INCLUDES[@]}" "$@" \
      -c "$source" -o "$object" &
  fi
}

core_wait() {
  local failed=0
  while [ "$(jobs -rp | wc -l)" -gt 0 ]; do wait -n || failed=1; done
  local object
  for object in "${OBJECTS[@]}"; do
    [ -f "$object" ] || { echo "error: $object was not built" >&2; failed=1; }
  done
  return $failed
}

core_compile() {
  # Headers decide too: the newest of them.
  STAMP=$(ls -t kernels/*.h kernels/cuda/*.h kernels/cuda/*.cuh tests/kernels/*.h \
    benchmarks/gpu/*.h | head -1)
  OBJECTS=()
  local source
  for source in kernels/cuda/*.cu; do core_object "$source"; done
  for source in kernels/tensor.cc kernels/reference.cc kernels/cuda/*.cc \
                tests/gpu/standalone/no_cpu_device.cc; do
    core_object "$source"
  done
  core_object kernels/device_factory.cc -DTESSERA_HAS_CUDA=1
  core_wait || return 1
  CORE=("${OBJECTS[@]}")
}

core_program() {
  local name=$1 source
  shift
  OBJECTS=()
  for source in "$@"; do core_object "$source" -DTESSERA_TEST_GPU=1; done
  core_wait || return 1
  g++ -o "$OUT/$name" "${OBJECTS[@]}" "${CORE[@]}" "${LIBRARIES[@]}"
}
