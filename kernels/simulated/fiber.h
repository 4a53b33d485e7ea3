// Stacks that take turns on one OS thread: what the executor runs a GPU thread on.
//
// No scheduler here: whoever runs names the next. A Fiber may be started again once its function
// has returned or been abandoned (its frames are then forgotten, their destructors not run).
// Thread-compatible; a fiber stays on the OS thread that started it.
//
//   Fiber main;                       // the caller's own stack
//   Fiber other(&Entry, argument);
//   other.Start();
//   Fiber::Switch(&main, &other);     // returns when somebody switches back to main
#ifndef TESSERA_KERNELS_SIMULATED_FIBER_H_
#define TESSERA_KERNELS_SIMULATED_FIBER_H_

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace tessera::kernels::cuda::simt {

class Fiber {
 public:
  // The stack this is called on.
  Fiber() = default;
  // entry(argument) must not return: it ends by switching away.
  Fiber(void (*entry)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // From the beginning at the next switch to it.
  void Start();

  static void Switch(Fiber* from, Fiber* to);

 private:
  static void Enter();

  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  char* stack_ = nullptr;  // lowest address; null for the caller's own stack
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_ = {};
#endif
  // For AddressSanitizer, which must know the stack that runs.
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tessera::kernels::cuda::simt

#endif  // TESSERA_KERNELS_SIMULATED_FIBER_H_
