// The kernel table for any CPU.
#define CK(name) name##_portable
#define CK_TARGET
#define CK_LEVEL CK_PORTABLE
#define CK_VECTOR 4
#define CK_LEVEL_NAME "portable"
#define CK_WIDE_TARGET
#define CK_ROWS 2
#define CK_COLUMNS 1
#include "kernels.inc"
