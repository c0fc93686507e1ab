// The default model and its adapters, embedded in the program.
#pragma once

#include <stddef.h>

// One embedded file: `name` is its path below models/, such as "nano/model_index.json". `data` is not terminated.
struct videolora_builtin_file {
  const char *_Nullable name;
  const void *_Nullable data;
  size_t size;
};

// The number of embedded files.
size_t videolora_builtin_count(void);

// The file at `index`, in the order of their names; all zero when there is none.
struct videolora_builtin_file videolora_builtin_at(size_t index);
