// A C border around libsentencepiece: no exception crosses it, every failure is a text.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A loaded tokenizer model. Encoding does not change it, so several threads may share one.
typedef struct CSPModel CSPModel;

/// Loads the bytes of a `spiece.model`. Returns NULL and a zero-terminated reason in `error` when they cannot be used.
/// The library itself trusts offsets inside the file: bytes of unknown origin are checked by the caller beforehand.
CSPModel *csp_load(const uint8_t *bytes, size_t size, char *error, size_t error_size);
void csp_free(CSPModel *model);

/// Number of pieces.
int32_t csp_piece_count(const CSPModel *model);
/// The id of the end-of-sequence piece, or -1.
int32_t csp_eos_id(const CSPModel *model);

/// Splits UTF-8 text into pieces. Writes at most `capacity` ids and returns how many there are, or -1 and a reason in `error`.
int64_t csp_encode(const CSPModel *model, const char *text, size_t size, int32_t *ids, size_t capacity, char *error,
                   size_t error_size);

#ifdef __cplusplus
}
#endif
