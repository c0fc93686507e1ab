/* What a stretch of the program takes from the heap: malloc and its relatives, counted. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Starts a stretch. */
void videolora_allocations_begin(void);
/* The most bytes that lived at one time since the start, without those that lived before it. */
size_t videolora_allocations_peak(void);
/* The largest single request since the start. */
size_t videolora_allocations_largest(void);

/* Parts of libFuzzer (compiler-rt/lib/fuzzer/FuzzerInterface.h): its main loop and its own mutation. */
int LLVMFuzzerRunDriver(int *count, char ***arguments, int (*test)(const uint8_t *data, size_t size));
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
