// SIMD kernels over contiguous f32 rows, compiled for several instruction sets and chosen once at run time.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Frames under a Winograd convolution's filters.
#define CK_WINOGRAD_TAPS 3
/// Floats between two of the 36 values of a tile, for n floats each.
#define CK_WINOGRAD_STEP(n) ((((n) + 15) / 16 | 1) * 16)
/// Floats of transformed filters for c inputs and 16 outputs.
#define CK_WINOGRAD_FILTERS(c) (36 * CK_WINOGRAD_STEP((c) * 16))

/// Instruction sets, in order of preference.
enum { CK_PORTABLE = 0, CK_AVX2 = 1, CK_AVX512 = 2 };

/// Pointwise functions that some kernels apply to their result.
enum { CK_IDENTITY = 0, CK_RELU = 1, CK_SILU = 2, CK_GELU_TANH = 3 };

/// Number formats of stored filters.
enum { CK_F32 = 0, CK_BF16 = 1, CK_F16 = 2 };

/// A convolution of pictures with 3 by 3 filters and a stride of 1, summed over the frames of a window.
typedef struct {
  /// Pictures [height, width, inputs], newest first; of several pictures in one job the first, the others behind it.
  const float *frames[CK_WINOGRAD_TAPS];
  size_t frame_count, height, width, inputs;
  /// 1, or 2 where every pixel stands for 2 by 2.
  size_t scale;
  /// Zeros above and to the left.
  ptrdiff_t top, left;
  /// [panel of 16 outputs][tap][inputs rounded up to 8][9][16], or with the 36 transformed values
  /// [panel][tap][36][inputs rounded up to 8, then to an odd number][16]; taps in the order of `frames`.
  const void *filters;
  size_t taps;
  int is_transformed;
  /// How filters that are not transformed are stored: CK_F32, CK_BF16 or CK_F16.
  int format;
  const float *bias;
  /// Added before the activation, may be NULL; like the result.
  const float *skip;
  int relu;
  /// [pictures, rows, columns, outputs]
  float *result;
  size_t rows, columns, outputs;
  /// The outputs to compute, the first a multiple of 16.
  size_t first_output, last_output;
} CKWinograd;
/// Numbers of one optimiser step.
typedef struct {
  float scale;            ///< of the gradient, from clipping
  float beta1, beta2;
  float shrink;           ///< 1 - learning rate * weight decay
  float step;             ///< learning rate / (1 - beta1^t)
  float root_correction;  ///< sqrt(1 - beta2^t)
  float epsilon;
} CKAdamW;

/// A norm of rows of channels, with a mean and a factor for each channel: f((x - mean) * inverse * weight + bias), f SiLU or
/// the identity.
typedef struct {
  const float *mean, *inverse, *weight, *bias;
  int silu;
  size_t channels;
} CKChannelNorm;

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
  /// with z = (x - mean) * inverse and d = g * f' * weight: sums over the rows of d and of d * z, for every channel
  void (*channel_slopes)(const CKChannelNorm *n, float *sums, float *dots, const float *g, const float *x, size_t rows);
  /// dx (+)= inverse * (d - average - z * slope)
  void (*channel_gradient)(const CKChannelNorm *n, float *dx, const float *g, const float *x, const float *average,
                           const float *slope, int accumulate, size_t rows);
  /// of y = x * gelu(gate)
  void (*geglu)(float *dx, float *dgate, const float *g, const float *x, const float *gate, size_t n);
} CKGradientTable;
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

/// One term of a product with panels: rows of `depth` floats, `lda` floats apart, and panels of `depth` rows from
/// `pack_transposed` or `pack_plain`.
typedef struct {
  const float *rows;
  size_t lda;
  const float *panels;
  size_t depth;
} CKPanelTerm;

/// Rows times packed panels: `result[rows, columns] (+)= scale * (sum of terms) + bias`.
typedef struct {
  float *result;
  /// Floats from one row of the result to the next.
  size_t stride, rows, columns;
  /// [columns], may be NULL.
  const float *bias;
  float scale;
  int adds;
  int term_count;
  CKPanelTerm terms[2];
} CKPanelProduct;

/// The gradient of one head's attention, for `attend_gradient`. Strides count floats.
typedef struct {
  /// Query, sizes (any number of rows), scale, mask and `ck_attention_gradient_scratch` floats; the rest is not read.
  CKAttention forward;
  const float *key, *value;
  size_t key_stride, value_stride;
  /// Of the result.
  const float *gradient;
  size_t gradient_stride;
  float *query_gradient, *key_gradient, *value_gradient;
  size_t query_gradient_stride, key_gradient_stride, value_gradient_stride;
  /// [keys], added to; NULL where not wanted.
  float *key_bias_gradient;
} CKAttentionGradient;

/// Floats that `attend_gradient` needs beside its operands.
static inline size_t ck_attention_gradient_scratch(size_t queries, size_t keys, size_t depth) {
  size_t block = queries < CK_QUERY_BLOCK ? queries : CK_QUERY_BLOCK;
  size_t ldk = ck_packed_keys(keys), ldd = ck_packed_keys(depth);
  return 2 * ldk * depth + 3 * keys * ldd + 2 * block * (ldd + ldk);
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
  /// round to nearest, ties to even; NaN stays NaN
  void (*f32_to_bf16)(uint16_t *y, const float *x, size_t n);
  /// q = round(x / scale) in -127…127 with scale = max |x| / 127, which is returned: 0 for a row without a number of 1e-30
  /// or more, NaN for one that is not finite. quantize_u8 adds 128 to every q.
  float (*quantize_s8)(int8_t *q, const float *x, size_t n);
  float (*quantize_u8)(uint8_t *q, const float *x, size_t n);
  float (*quantize_s16)(int16_t *q, const float *x, size_t n);
  /// y = x * scale
  void (*s8_to_f32)(float *y, const int8_t *x, float scale, size_t n);
  /// y = activation((sums - offsets) * (row * scales) + bias); offsets and bias may be NULL, y may be the place of sums
  void (*dequantize)(float *y, const int32_t *sums, const int32_t *offsets, float row, const float *scales,
                     const float *bias, int activation, size_t n);
  /// `rows` rows of `k` numbers as panels of 16 rows for multiply_s16; every panel takes 16 * (k rounded up to even)
  void (*pack_s8)(int16_t *panels, const int8_t *w, size_t ld, size_t rows, size_t k);
  /// c[m, n] (+)= a[m, k] * panels[n, k]^T, exact while |a| <= 127 and k < 2^17; with odd k, a has a zero behind every row
  void (*multiply_s16)(int32_t *c, size_t ldc, const int16_t *a, size_t lda, const int16_t *panels, size_t m, size_t n,
                       size_t k, int add);
  /// filters [c][9][16] to their transform [36][c, rounded up to an odd number][16]
  void (*winograd_filters)(float *y, const float *x, size_t c);
  /// computes `count` tiles of 4 by 4 results from number `first` on, counted through all pictures; scratch as `ck_winograd_scratch` says
  void (*winograd)(const CKWinograd *job, size_t first, size_t count, float *scratch);
  CKGradientTable gradient;
  /// `keys` rows of `depth` floats, `stride` floats apart, into the layouts that `attend` reads:
  /// `ck_packed_keys(keys) * depth` and `keys * ck_packed_keys(depth)` floats
  void (*pack_keys)(float *to, const float *from, size_t stride, size_t keys, size_t depth);
  void (*pack_values)(float *to, const float *from, size_t stride, size_t keys, size_t depth);
  /// one block of queries of one head over all its keys
  void (*attend)(const CKAttention *task);
  /// y = x * gelu(gate), by the error function
  void (*geglu)(float *y, const float *x, const float *gate, size_t n);
  /// mean, and sum of squared distances from it, of every column of x [rows, channels]
  void (*channel_moments)(float *means, float *squares, const float *x, size_t rows, size_t channels);
  /// y = f((x - mean) * factor + term) for rows of channels; f is SiLU, or the identity where silu is 0
  void (*channel_normalize)(float *y, const float *x, const float *mean, const float *factor, const float *term, int silu,
                            size_t rows, size_t channels);
  /// panels of 16 columns, `ck_packed_keys(columns) * depth` floats: of the transpose of `rows` rows of `depth` floats, whose
  /// columns are these rows, or of `depth` rows of `columns` floats as they are
  void (*pack_transposed)(float *to, const float *from, size_t stride, size_t rows, size_t depth);
  void (*pack_plain)(float *to, const float *from, size_t stride, size_t depth, size_t columns);
  void (*multiply_panels)(const CKPanelProduct *product);
  /// c[rows, columns] (+)= a[depth, rows]^T * b[depth, columns], summed in blocks of a fixed depth
  void (*multiply_transposed)(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, size_t rows,
                              size_t columns, size_t depth, int add);
  /// all queries of one head
  void (*attend_gradient)(const CKAttentionGradient *task);
} CKernelTable;

/// The table in use: the best that the CPU has, unless `ck_limit_level` was called before.
const CKernelTable *ck_kernels(void);
/// Limits dispatch to `level` or lower (process-wide; tests and VIDEOLORA_SIMD use it). Returns the level in effect.
int ck_limit_level(int level);
/// The best level of this CPU.
int ck_best_level(void);

/// Whether this CPU multiplies bfloat16 (AVX512_BF16), and 8-bit integers into 32-bit sums (AVX512_VNNI).
int ck_cpu_has_bf16(void);
int ck_cpu_has_vnni(void);

/// Makes OpenMP (under oneDNN) use one thread for calls from the current thread; returns the former setting, or 0.
int ck_openmp_single(void);
/// Restores what `ck_openmp_single` returned.
void ck_openmp_restore(int threads);

/// Cores that this process may run on.
int ck_available_cores(void);

/// Floats of scratch memory for `count` tiles.
static inline size_t ck_winograd_scratch(size_t inputs, size_t frames, int is_transformed, size_t count) {
  size_t c = (inputs + 7) / 8 * 8;
  return 36 * (CK_WINOGRAD_STEP(count * frames * c) + CK_WINOGRAD_STEP(count * 16)) + c +
         (is_transformed ? 0 : frames * CK_WINOGRAD_FILTERS(c) + 9 * c * 16);
}

/// Floats of transformed filters for `inputs` and 16 outputs of one tap.
static inline size_t ck_winograd_filters(size_t inputs) { return CK_WINOGRAD_FILTERS((inputs + 7) / 8 * 8); }
