# Sourced by tests/gpu.sh and benchmarks/gpu.sh: builds programs from kernels/ and the worker's core
# on a machine that has CUDA, g++, Python and nothing else: no CMake, no packages, no network.
# Abseil and GoogleTest are those installed, else the few lines of tests/gpu/standalone; the worker's
# core always has these, and messages made from proto/ by a script in the place of Protobuf's.
#
#   core_begin [standalone]   finds the tools, makes build/gpu; sets CUDA, OUT. standalone: as if
#                             nothing were installed
#   core_compile              kernels/ without its cpu/, for this machine's card, side by side
#   worker_compile            files, model, engine and communicators of a rank, the planner, and
#                             kernels/cpu
#   core_program NAME SOURCE...     links OUT/NAME from them and the kernels
#   worker_program NAME SOURCE...   the same with the worker's core and the device "cpu"
#
# TESSERA_GPU_SIMULATED=1: no card and no nvcc; the kernels run on the CPU over the stubs of
# kernels/simulated. Of CUDA only the headers are needed then.
core_begin() {
  NVCC=$(command -v nvcc || true)
  [ -n "$NVCC" ] || NVCC=/usr/local/cuda/bin/nvcc
  [ -x "$NVCC" ] || { echo "error: no nvcc in PATH or /usr/local/cuda/bin" >&2; return 1; }
  command -v g++ >/dev/null || { echo "error: no g++" >&2; return 1; }
  CUDA=$(dirname "$(dirname "$(readlink -f "$NVCC")")")
  OUT=$PWD/build/gpu
  JOBS=${TESSERA_BUILD_JOBS:-$(nproc)}
  CCACHE=($(command -v ccache || true))
  # The card's architecture; TESSERA_GPU_ARCH=sm_90a builds where there is no card.
  ARCH=${TESSERA_GPU_ARCH:-native}
  INCLUDES=(-I. -isystem "$CUDA/include")
  LIBRARIES=(-lpthread)
  if [ -n "${TESSERA_GPU_SIMULATED:-}" ]; then
    ARCH=simulated
    LIBRARIES+=(-ldl)
  else
    LIBRARIES+=(-L"$CUDA/lib64" -L"$CUDA/lib" -Wl,-rpath,"$CUDA/lib64" -Wl,-rpath,"$CUDA/lib"
                -lcublasLt -lcudart)
  fi
  local standalone=${TESSERA_GPU_STANDALONE:-}${1:-}
  [ "$ARCH" != simulated ] || standalone=1
  if [ -z "$standalone" ] && echo '#include "absl/status/statusor.h"' |
     g++ -x c++ -std=c++20 -fsyntax-only - 2>/dev/null; then
    echo "Abseil: installed"
    OBJECT_DIR=$OUT/objects-$ARCH
    LIBRARIES=($(pkg-config --libs absl_status absl_statusor absl_strings) "${LIBRARIES[@]}")
  else
    echo "Abseil: tests/gpu/standalone"
    OBJECT_DIR=$OUT/objects-$ARCH-standalone
    INCLUDES=(-Itests/gpu/standalone "${INCLUDES[@]}")
  fi
  mkdir -p "$OBJECT_DIR"
  # Headers decide whether an object is old: the newest of them.
  STAMP=$(find kernels worker proto/base proto/model proto/wire coordinator/plan tests/kernels tests/worker/engine \
    tests/gpu kernels/simulated benchmarks/gpu \( -name '*.h' -o -name '*.cuh' -o -name '*.sh' \) \
    -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
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
  if [[ $source == *.cu && $ARCH != simulated ]]; then
    "${CCACHE[@]}" "$NVCC" -arch="$ARCH" -std=c++20 -O3 --expt-relaxed-constexpr -lineinfo \
      "${INCLUDES[@]}" "$@" -c "$source" -o "$object" &
  else
    "${CCACHE[@]}" g++ -std=c++20 -O2 -g1 -fno-math-errno -ffp-contract=off "${INCLUDES[@]}" "$@" \
      -c -x c++ "$source" -o "$object" &
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
  OBJECTS=()
  local source simulated=()
  [ "$ARCH" != simulated ] || simulated=(-DTESSERA_SIMT_SIMULATED -Ikernels/simulated)
  for source in kernels/cuda/*.cu; do core_object "$source" "${simulated[@]}"; done
  if [ "$ARCH" = simulated ]; then
    for source in kernels/simulated/{executor,fiber,warp_matrix}.cc \
                  kernels/simulated/{call_sites,cublaslt,journal,runtime,streams}.cc; do
      core_object "$source" "${simulated[@]}"
    done
  fi
  for source in kernels/tensor.cc kernels/reference.cc kernels/cuda/*.cc; do
    core_object "$source"
  done
  core_object kernels/device_factory.cc -DTESSERA_HAS_CUDA=1
  core_wait || return 1
  CORE=("${OBJECTS[@]}")
}

# Without MPI, NCCL, gRPC and JSON: what needs them is not of the core. Of the kernels for CPUs the
# portable ones.
worker_compile() {
  local source name messages=$OUT/messages
  python3 tests/gpu/standalone/make_messages.py "$messages" || return 1
  [ "$messages/tessera/v1/cluster.pb.h" -nt "$STAMP" ] && STAMP=$messages/tessera/v1/cluster.pb.h
  [ "$messages/tessera/v1/model.pb.h" -nt "$STAMP" ] && STAMP=$messages/tessera/v1/model.pb.h
  [ "$messages/tessera/v1/plan.pb.h" -nt "$STAMP" ] && STAMP=$messages/tessera/v1/plan.pb.h
  INCLUDES+=("-I$messages")
  OBJECTS=()
  for source in worker/model/*.cc worker/engine/*.cc worker/files/gguf/*.cc; do
    core_object "$source"
  done
  for name in check_description check_plan enum_names slices tensor_roles; do
    core_object "proto/model/$name.cc"
  done
  core_object proto/base/range.cc
  for name in gguf_alone plain_status_builders scalar_instruction_set; do
    core_object "tests/gpu/standalone/$name.cc"
  done
  for name in families file_errors fp8_model mapped_file model_file pre_tokenizers repack \
              slice_reader stop_tokens stored_model stored_tensor tensor_table; do
    core_object "worker/files/$name.cc"
  done
  for name in activation_link backoff call doorbells link_factory null_communicator rank_sum \
              receive_within status_barrier thread_communicator timed_communicator; do
    core_object "worker/comm/$name.cc"
  done
  for name in apportion kv_budget layer_split shard_planner; do
    core_object "coordinator/plan/$name.cc"
  done
  for name in attention_work cpu_device huge_pages kv_store packed_weights product_work \
              thread_pool; do
    core_object "kernels/cpu/$name.cc"
  done
  for name in add attention matmul_amx matmul_floating matmul_quantized multiply ops_table \
              prepare_input rms_norm rope silu_mul; do
    core_object "kernels/cpu/$name.cc" -DTESSERA_ISA=scalar -DTESSERA_SIMD_SCALAR
  done
  core_wait || return 1
  WORKER=("${OBJECTS[@]}")
}

# core_link NAME OBJECT...: with what the last core_object calls made.
core_link() {
  local name=$1
  shift
  core_wait && g++ -o "$OUT/$name" "${OBJECTS[@]}" "$@" "${CORE[@]}" "${LIBRARIES[@]}"
}

core_program() {
  local name=$1 source
  shift
  OBJECTS=()
  for source in "$@" tests/gpu/standalone/no_cpu_device.cc; do
    core_object "$source" -DTESSERA_TEST_GPU=1
  done
  core_link "$name"
}

worker_program() {
  local name=$1 source
  shift
  OBJECTS=()
  for source in "$@"; do core_object "$source"; done
  core_link "$name" "${WORKER[@]}"
}
