// Replaces glibc's allocator functions by counting ones that call it (glibc manual, "Replacing malloc").

#include "callocationcounter.h"
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static atomic_long live, start, peak;
static atomic_size_t largest;

static void *took(void *pointer, size_t wanted) {
  size_t seen = atomic_load_explicit(&largest, memory_order_relaxed);
  while (wanted > seen && !atomic_compare_exchange_weak(&largest, &seen, wanted)) {}
  if (pointer) {
    long size = (long)malloc_usable_size(pointer);
    long now = atomic_fetch_add_explicit(&live, size, memory_order_relaxed) + size;
    long top = atomic_load_explicit(&peak, memory_order_relaxed);
    while (now > top && !atomic_compare_exchange_weak(&peak, &top, now)) {}
  }
  return pointer;
}

static void gave(void *pointer) {
  if (pointer) atomic_fetch_sub_explicit(&live, (long)malloc_usable_size(pointer), memory_order_relaxed);
}

void *malloc(size_t size) { return took(__libc_malloc(size), size); }

void *calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;
  return took(__libc_calloc(count, size), bytes);
}

void *realloc(void *old, size_t size) {
  long before = old ? (long)malloc_usable_size(old) : 0;
  void *pointer = __libc_realloc(old, size);
  if (pointer || size == 0) atomic_fetch_sub_explicit(&live, before, memory_order_relaxed);
  return took(pointer, size);
}

void *memalign(size_t alignment, size_t size) { return took(__libc_memalign(alignment, size), size); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **result, size_t alignment, size_t size) {
  void *pointer = memalign(alignment, size);
  if (!pointer) return ENOMEM;
  *result = pointer;
  return 0;
}

void free(void *pointer) {
  gave(pointer);
  __libc_free(pointer);
}

void videolora_allocations_begin(void) {
  long now = atomic_load(&live);
  atomic_store(&start, now);
  atomic_store(&peak, now);
  atomic_store(&largest, 0);
}

size_t videolora_allocations_peak(void) {
  long more = atomic_load(&peak) - atomic_load(&start);
  return more > 0 ? (size_t)more : 0;
}

size_t videolora_allocations_largest(void) { return atomic_load(&largest); }
