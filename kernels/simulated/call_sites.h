// Where the worker calls the stubbed libraries, and which call shall fail.
//
// A site is an entry point and the place that it was called from ("cudaMemcpyAsync@1a2b3c", the
// offset of the return address in its program), or a kernel: "launch@<kernel>" fails at once,
// "run@<kernel>" is launched well and fails while it runs. Nobody lists them: a clean run writes down those that it reached.
//
//   TESSERA_STUB_SITES=FILE   appends "<rank> <site>" when a site is reached for the first time
//   TESSERA_STUB_FAIL=SITE    that site's call fails, the library's way
//   TESSERA_STUB_FAIL_RANK=R  on rank R only (OMPI_COMM_WORLD_RANK; default: 0)
//   TESSERA_STUB_FAIL_CALL=K  the K-th call (default: 1), and not the others
//
// Threads: any.
#ifndef TESSERA_KERNELS_SIMULATED_CALL_SITES_H_
#define TESSERA_KERNELS_SIMULATED_CALL_SITES_H_

namespace tessera::gpu_stubs {

// Notes the call; whether it must fail. `caller`: __builtin_return_address(0) of the entry point.
bool MustFail(const char* entry, const void* caller);
// MustFail for a kernel: `stage` is "launch" or "run".
bool KernelMustFail(const char* stage, const char* kernel);

}  // namespace tessera::gpu_stubs

// First line of an entry point: returns `error` where this call must fail.
#define TESSERA_STUB_ENTRY(error)                                                         \
  if (::tessera::gpu_stubs::MustFail(__func__, __builtin_return_address(0))) return error

#endif  // TESSERA_KERNELS_SIMULATED_CALL_SITES_H_
