// SIMD kernels over contiguous f32 rows, compiled for several instruction sets and chosen once at run time.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Instruction sets, in order of preference.
enum { CK_PORTABLE = 0, CK_AVX2 = 1, CK_AVX512 = 2 };

/// Numbers of one optimiser step.
typedef struct {
  float scale;            ///< of the gradient, from clipping
  float beta1, beta2;
  float shrink;           ///< 1 - learning rate * weight decay
  float step;             ///< learning rate / (1 - beta1^t)
  float root_correction;  ///< sqrt(1 - beta2^t)
  float epsilon;
} CKAdamW;

/// Kernels of training: pullbacks and the optimiser.
typedef struct {
  /// y = g * f'(x)
  void (*silu)(float *y, const float *x, const float *g, size_t n);
  void (*gelu_tanh)(float *y, const float *x, const float *g, size_t n);
  void (*soft_clamp)(float *y, const float *x, const float *g, float bound, size_t n);
  void (*relu)(float *y, const float *x, const float *g, size_t n);
  /// gradient of normalize over one row; the factors are plus + weight (weight may be NULL: 1); dx += with accumulate
  void (*norm)(float *dx, const float *g, const float *x, float mean, float inv, const float *weight, float plus,
               int centred, int accumulate, size_t n);
  /// gradient of softmax(scale * x) from its result p, in place
  void (*softmax)(float *g, const float *p, float scale, size_t n);
  void (*adamw)(float *weight, float *first, float *second, const float *gradient, const CKAdamW *settings, size_t n);
} CKGradientTable;

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
  CKGradientTable gradient;
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
