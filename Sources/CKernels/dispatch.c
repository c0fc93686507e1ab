// Chooses the kernel table by cpuid; VIDEOLORA_SIMD=portable|avx2|avx512 limits it.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "ckernels.h"

extern const CKernelTable ck_table_portable;
#if defined(__x86_64__)
extern const CKernelTable ck_table_avx2, ck_table_avx512;
#endif

static _Atomic(const CKernelTable *) current;

int ck_best_level(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return CK_AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CK_AVX2;
#endif
  return CK_PORTABLE;
}

int ck_cpu_has_bf16(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return 0;
#endif
}

int ck_cpu_has_vnni(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512vnni") != 0;
#else
  return 0;
#endif
}

int ck_limit_level(int level) {
  int best = ck_best_level();
  int use = level < best ? level : best;
  const CKernelTable *table = &ck_table_portable;
#if defined(__x86_64__)
  if (use >= CK_AVX512) table = &ck_table_avx512;
  else if (use == CK_AVX2) table = &ck_table_avx2;
#endif
  atomic_store(&current, table);
  return table->level;
}

const CKernelTable *ck_kernels(void) {
  const CKernelTable *table = atomic_load_explicit(&current, memory_order_acquire);
  if (table) return table;
  const char *wish = getenv("VIDEOLORA_SIMD");
  int level = CK_AVX512;
  if (wish && !strcmp(wish, "portable")) level = CK_PORTABLE;
  if (wish && !strcmp(wish, "avx2")) level = CK_AVX2;
  ck_limit_level(level);
  return atomic_load(&current);
}

// oneDNN's OpenMP is reached through weak symbols: nothing to link, absent in other builds of oneDNN.
extern void omp_set_num_threads(int) __attribute__((weak));
extern int omp_get_max_threads(void) __attribute__((weak));

int ck_openmp_single(void) {
  if (!omp_set_num_threads || !omp_get_max_threads) return 0;
  int before = omp_get_max_threads();
  if (before != 1) omp_set_num_threads(1);
  return before;
}

void ck_openmp_restore(int threads) {
  if (threads > 1 && omp_set_num_threads) omp_set_num_threads(threads);
}
