// SPDX-License-Identifier: MIT
// The functions that code compiled with -fsanitize=thread calls at every load and store. Linked in place of
// libtsan, so that each access of an unmodified kernel reaches the executor.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "block.hpp"
#include "executor.hpp"

namespace {

using namespace ddpm::simt;

// Compilers take the hooks for functions that do not throw.
template <class Check>
void stop_on_failure(Check check) {
  std::string report;
  try {
    check();
    return;
  } catch (const Failure& failure) {
    report = failure.what();
  }
  Block::running()->abandon(std::move(report));
}

void note(const void* address, std::size_t bytes, AccessKind kind, const char* what,
          const void* return_address) {
  const Access access{address, bytes, kind, what, CodeAddress(return_address)};
  stop_on_failure([&] {
    if (Executor::instance().note(access) && reinterpret_cast<std::uintptr_t>(address) % bytes != 0)
      Block::running()->fail(access.text() + ": the address is not aligned to the size", access.from);
  });
}

// Accesses longer than an instruction's, such as copies of structures, count as several.
void note_range(const void* address, std::size_t bytes, AccessKind kind, const char* what,
                const void* return_address) {
  constexpr std::size_t widest = 16;
  const auto* at = static_cast<const std::byte*>(address);
  stop_on_failure([&] {
    for (std::size_t done = 0; done < bytes; done += widest) {
      const std::size_t part = bytes - done < widest ? bytes - done : widest;
      Executor::instance().note({at + done, part, kind, what, CodeAddress(return_address)});
    }
  });
}

}  // namespace

#define DDPM_SIMT_ACCESS(prefix, bytes)                                                    \
  void __tsan_##prefix##read##bytes(void* address) {                                       \
    note(address, bytes, AccessKind::read, #prefix "read", __builtin_return_address(0));   \
  }                                                                                        \
  void __tsan_##prefix##write##bytes(void* address) {                                      \
    note(address, bytes, AccessKind::write, #prefix "write", __builtin_return_address(0)); \
  }
#define DDPM_SIMT_ACCESSES(prefix) \
  DDPM_SIMT_ACCESS(prefix, 1)      \
  DDPM_SIMT_ACCESS(prefix, 2)      \
  DDPM_SIMT_ACCESS(prefix, 4)      \
  DDPM_SIMT_ACCESS(prefix, 8)      \
  DDPM_SIMT_ACCESS(prefix, 16)

// Not atomics of kernels, which call atomicAdd, but of the standard library's code in the same file.
#define DDPM_SIMT_ATOMICS(bits)                                                                         \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* from, int) {       \
    return __atomic_load_n(from, __ATOMIC_SEQ_CST);                                                     \
  }                                                                                                     \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* to, std::uint##bits##_t value, int) {  \
    __atomic_store_n(to, value, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                     \
  std::uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile std::uint##bits##_t* to,                 \
                                                      std::uint##bits##_t value, int) {                 \
    return __atomic_fetch_add(to, value, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                     \
  std::uint##bits##_t __tsan_atomic##bits##_fetch_sub(volatile std::uint##bits##_t* to,                 \
                                                      std::uint##bits##_t value, int) {                 \
    return __atomic_fetch_sub(to, value, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                     \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile std::uint##bits##_t* to,                   \
                                                    std::uint##bits##_t* expected,                      \
                                                    std::uint##bits##_t value, int, int) {              \
    return __atomic_compare_exchange_n(to, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }

extern "C" {

void __tsan_init() { Executor::instance().set_has_hooks(); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

DDPM_SIMT_ACCESSES()
DDPM_SIMT_ACCESSES(unaligned_)
DDPM_SIMT_ACCESSES(volatile_)
DDPM_SIMT_ACCESSES(unaligned_volatile_)

DDPM_SIMT_ATOMICS(8)
DDPM_SIMT_ATOMICS(32)
DDPM_SIMT_ATOMICS(64)

void __tsan_read_range(void* address, std::size_t bytes) {
  note_range(address, bytes, AccessKind::read, "read", __builtin_return_address(0));
}
void __tsan_write_range(void* address, std::size_t bytes) {
  note_range(address, bytes, AccessKind::write, "write", __builtin_return_address(0));
}

void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) {
  note_range(from, bytes, AccessKind::read, "memcpy", __builtin_return_address(0));
  note_range(to, bytes, AccessKind::write, "memcpy", __builtin_return_address(0));
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, std::size_t bytes) {
  note_range(from, bytes, AccessKind::read, "memmove", __builtin_return_address(0));
  note_range(to, bytes, AccessKind::write, "memmove", __builtin_return_address(0));
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, std::size_t bytes) {
  note_range(to, bytes, AccessKind::write, "memset", __builtin_return_address(0));
  return std::memset(to, value, bytes);
}
}
