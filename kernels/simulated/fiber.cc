#include "kernels/simulated/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// The callee-saved registers stand on the stack that is left; the rest is dead across a call.
extern "C" void tessera_simt_switch(void** save_stack_pointer, void* stack_pointer);
asm(R"(
.text
.globl tessera_simt_switch
.type tessera_simt_switch, @function
tessera_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tessera_simt_switch, .-tessera_simt_switch
)");
#endif

namespace tessera::kernels::cuda::simt {
namespace {

// Kernels keep little on the stack; sanitizers and unoptimized code make it more.
constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kGuardBytes = 4096;

// Set right before a fiber's first switch; Enter reads them.
thread_local Fiber* entering = nullptr;
thread_local Fiber* leaving = nullptr;

}  // namespace

Fiber::Fiber(void (*entry)(void*), void* argument) : entry_(entry), argument_(argument) {
  void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) {
    std::perror("simt: no stack for a GPU thread");
    std::abort();
  }
  stack_ = static_cast<char*>(memory) + kGuardBytes;
  bottom_ = stack_;
  size_ = kStackBytes;
}

Fiber::~Fiber() {
  if (stack_ != nullptr) munmap(stack_ - kGuardBytes, kStackBytes + kGuardBytes);
}

void Fiber::Start() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStackBytes);  // an abandoned run's frames
#endif
#if defined(__x86_64__)
  auto* top = reinterpret_cast<uint64_t*>(stack_ + kStackBytes);
  *--top = 0;  // Enter's return address: none; keeps its frame aligned as after a call
  *--top = reinterpret_cast<uint64_t>(&Fiber::Enter);
  for (int i = 0; i < 6; ++i) *--top = 0;
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::Enter, 0);
#endif
  fake_stack_ = nullptr;
}

void Fiber::Enter() {
  Fiber* self = entering;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &leaving->bottom_, &leaving->size_);
#endif
  self->entry_(self->argument_);
  std::abort();  // an entry must not return
}

void Fiber::Switch(Fiber* from, Fiber* to) {
  entering = to;
  leaving = from;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from->fake_stack_, to->bottom_, to->size_);
#endif
#if defined(__x86_64__)
  tessera_simt_switch(&from->stack_pointer_, to->stack_pointer_);
#else
  swapcontext(&from->context_, &to->context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from->fake_stack_, &leaving->bottom_, &leaving->size_);
#endif
}

}  // namespace tessera::kernels::cuda::simt
