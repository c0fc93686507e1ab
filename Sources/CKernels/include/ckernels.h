// SIMD kernels over contiguous f32 rows, compiled for several instruction sets and chosen once at run time.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Instruction sets, in order of preference.
enum { CK_PORTABLE = 0, CK_AVX2 = 1, CK_AVX512 = 2 };

enum {
  /// Most queries of one `attend`.
  CK_QUERY_BLOCK = 48,
  /// Keys that one pass of `attend` takes: their keys, values and scores stay in a core's cache. A multiple of every
  /// panel width.
  CK_KEY_BLOCK = 256,
};

/// Queries of one head over its keys, for `attend`. Strides count floats.
typedef struct {
  const float *query;
  size_t query_stride;
  /// From `pack_keys` and `pack_values`.
  const float *keys_packed, *values_packed;
  float *out;
  size_t out_stride;
  /// Queries (at most CK_QUERY_BLOCK), keys, floats of a head.
  size_t rows, keys, depth;
  float scale;
  /// Added to the scores where not NULL: `bias[row * bias_stride + key]`, `key_bias[key]`.
  const float *bias;
  ptrdiff_t bias_stride;
  const float *key_bias;
  /// Where not NULL: a key with a frame (>= 0) is visible to queries of that frame only. Keys before
  /// `first_framed` have none.
  const int32_t *query_frames, *key_frames;
  size_t first_framed;
  /// `ck_attention_scratch` floats.
  float *scratch;
} CKAttention;

/// Rows or columns rounded up to what the packed layouts hold.
static inline size_t ck_packed_keys(size_t count) { return (count + 15) / 16 * 16; }
/// Floats that `attend` needs beside its operands.
static inline size_t ck_attention_scratch(size_t rows, size_t keys, size_t depth) {
  size_t block = keys < CK_KEY_BLOCK ? keys : CK_KEY_BLOCK;
  return rows * (depth + ck_packed_keys(block) + ck_packed_keys(depth));
}

/// One table per instruction set. All pointers may be unaligned; `n` counts floats; in-place (y == x) is allowed.
typedef struct {
  int level;
  const char *name;
  void (*add)(float *y, const float *a, const float *b, size_t n);
  void (*sub)(float *y, const float *a, const float *b, size_t n);
  void (*mul)(float *y, const float *a, const float *b, size_t n);
  /// y = a * scale + shift
  void (*scale_shift)(float *y, const float *a, float scale, float shift, size_t n);
  /// y = a + b * s
  void (*add_scaled)(float *y, const float *a, const float *b, float s, size_t n);
  /// y = a + b * g, the gate per column
  void (*add_gated)(float *y, const float *a, const float *b, const float *g, size_t n);
  void (*relu)(float *y, const float *x, size_t n);
  void (*silu)(float *y, const float *x, size_t n);
  /// tanh approximation of GELU
  void (*gelu_tanh)(float *y, const float *x, size_t n);
  /// y = tanh(x / bound) * bound
  void (*soft_clamp)(float *y, const float *x, float bound, size_t n);
  float (*sum)(const float *x, size_t n);
  float (*dot)(const float *a, const float *b, size_t n);
  /// sum of (x - mean)^2
  float (*sum_squares)(const float *x, float mean, size_t n);
  /// y = (x - mean) * inv * weight + bias; weight and bias may be NULL
  void (*normalize)(float *y, const float *x, float mean, float inv, const float *weight, const float *bias, size_t n);
  /// y = (x - mean) * inv * (1 + scale) + shift
  void (*normalize_modulate)(float *y, const float *x, float mean, float inv, const float *scale, const float *shift,
                             size_t n);
  /// softmax of x * scale (+ bias, may be NULL), in place over one row
  void (*softmax)(float *x, const float *bias, float scale, size_t n);
  /// rotates interleaved pairs (x[2i], x[2i+1]) by angles given as cos[i], sin[i]; n is the number of floats
  void (*rotate)(float *y, const float *x, const float *cos, const float *sin, size_t n);
  void (*bf16_to_f32)(float *y, const uint16_t *x, size_t n);
  void (*f16_to_f32)(float *y, const uint16_t *x, size_t n);
  /// 1 when every value is finite
  int (*all_finite)(const float *x, size_t n);
  /// `keys` rows of `depth` floats, `stride` floats apart, into the layouts that `attend` reads:
  /// `ck_packed_keys(keys) * depth` and `keys * ck_packed_keys(depth)` floats
  void (*pack_keys)(float *to, const float *from, size_t stride, size_t keys, size_t depth);
  void (*pack_values)(float *to, const float *from, size_t stride, size_t keys, size_t depth);
  /// one block of queries of one head over all its keys
  void (*attend)(const CKAttention *task);
} CKernelTable;

/// The table in use: the best that the CPU has, unless `ck_limit_level` was called before.
const CKernelTable *ck_kernels(void);
/// Limits dispatch to `level` or lower (process-wide; tests and VIDEOLORA_SIMD use it). Returns the level in effect.
int ck_limit_level(int level);
/// The best level of this CPU.
int ck_best_level(void);

/// Makes OpenMP (under oneDNN) use one thread for calls from the current thread; returns the former setting, or 0.
int ck_openmp_single(void);
/// Restores what `ck_openmp_single` returned.
void ck_openmp_restore(int threads);

/// Cores that this process may run on.
int ck_available_cores(void);
