// The kernel table for AVX-512 (F, BW, DQ, VL).
#if defined(__x86_64__)
#define CK(name) name##_avx512
#define CK_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-256-bit")))
#define CK_HAS_AVX2 1
#define CK_WIDE_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define CK_LEVEL CK_AVX512
#define CK_VECTOR 16
#define CK_LEVEL_NAME "avx512"
// Matrix products pay for whole registers.
#define CK_WIDE_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define CK_ROWS 12
#define CK_COLUMNS 2
#include "kernels.inc"
#endif
