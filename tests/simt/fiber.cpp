// SPDX-License-Identifier: MIT
#include "fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <exception>
#include <new>

#include "asan.hpp"

#if !defined(__x86_64__)
#error "the switch between fibers is written for x86-64"
#endif

// Saves the registers that a call must preserve on this stack, stores its pointer, and takes up the other
// stack.
extern "C" void ddpm_simt_switch(void** save, void* resume);
asm(R"(
.text
.globl ddpm_simt_switch
.type ddpm_simt_switch, @function
ddpm_simt_switch:
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
.size ddpm_simt_switch, .-ddpm_simt_switch
)");

namespace ddpm::simt {

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t stack_bytes = 128 << 10;
constexpr int saved_registers = 6;

// The scheduler's side of the switch; there is one scheduler.
void* scheduler_stack_pointer = nullptr;
void* scheduler_asan_stack = nullptr;
const void* scheduler_stack = nullptr;
std::size_t scheduler_stack_bytes = 0;

}  // namespace

void Fiber::prepare(std::span<std::byte> stack, Entry entry) {
  stack_ = stack;
  asan_stack_ = nullptr;
  unpoison(stack.data(), stack.size());  // frames of a run that was abandoned may have left red zones
  // What the switch pops: six registers, the entry, and an empty slot where its return address would be,
  // which leaves the stack aligned as the ABI wants it at the start of a function.
  auto** top = reinterpret_cast<void**>(stack.data() + stack.size());
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < saved_registers; ++i) *--top = nullptr;
  stack_pointer_ = top;
}

void Fiber::resume() {
  start_switch(&scheduler_asan_stack, stack_.data(), stack_.size());
  ddpm_simt_switch(&scheduler_stack_pointer, stack_pointer_);
  finish_switch(scheduler_asan_stack, nullptr, nullptr);
}

void Fiber::entered() { finish_switch(nullptr, &scheduler_stack, &scheduler_stack_bytes); }

void Fiber::suspend() {
  start_switch(&asan_stack_, scheduler_stack, scheduler_stack_bytes);
  ddpm_simt_switch(&stack_pointer_, scheduler_stack_pointer);
  finish_switch(asan_stack_, nullptr, nullptr);
}

void Fiber::finish() {
  start_switch(nullptr, scheduler_stack,
               scheduler_stack_bytes);  // null: this stack will not be taken up again
  ddpm_simt_switch(&stack_pointer_, scheduler_stack_pointer);
  std::terminate();
}

StackPool::~StackPool() {
  for (const auto stack : stacks_) munmap(stack.data() - page, stack.size() + page);
}

std::span<std::byte> StackPool::stack(std::size_t index) {
  while (stacks_.size() <= index) {
    void* memory = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, page, PROT_NONE);
    stacks_.emplace_back(static_cast<std::byte*>(memory) + page, stack_bytes);
  }
  // Tops a multiple of the page apart would share the same few cache sets.
  constexpr std::size_t stagger = 192, positions = 61;
  return stacks_[index].first(stack_bytes - index % positions * stagger);
}

}  // namespace ddpm::simt
