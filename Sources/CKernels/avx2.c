// The kernel table for AVX2 with FMA.
#if defined(__x86_64__)
#define CK(name) name##_avx2
#define CK_TARGET __attribute__((target("avx2,fma,f16c")))
#define CK_HAS_AVX2 1
#define CK_LEVEL CK_AVX2
#define CK_VECTOR 8
#define CK_LEVEL_NAME "avx2"
#define CK_WIDE_TARGET CK_TARGET
#define CK_ROWS 6
#define CK_COLUMNS 1
#include "kernels.inc"
#endif
