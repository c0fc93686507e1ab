#!/bin/sh
# Rewrites builtin.c to embed every file of models/nano, models/adapters and models/tokenizers. Run it when a file is added, removed or
# renamed; a file whose bytes alone change is picked up by the build.
set -eu
cd "$(dirname "$0")"
models=../../models
list=$(cd "$models" && find -L nano adapters tokenizers -type f \
  \( -name '*.json' -o -name '*.safetensors' -o -name '*.txt' \) 2>/dev/null | LC_ALL=C sort)
{
  echo '// Written by generate.sh: the files of models/nano, models/adapters and models/tokenizers.'
  echo
  echo '#include "cbuiltinmodels.h"'
  echo
  echo '#pragma clang diagnostic ignored "-Wc23-extensions"'
  n=0
  for file in $list; do
    echo
    echo "static const unsigned char file_$n[] __attribute__((aligned(64))) = {"
    echo "#embed \"$models/$file\""
    echo '};'
    n=$((n + 1))
  done
  echo
  echo 'static const struct videolora_builtin_file files[] = {'
  n=0
  for file in $list; do
    echo "    {\"$file\", file_$n, sizeof file_$n},"
    n=$((n + 1))
  done
  echo '    {0, 0, 0},'
  echo '};'
  echo
  echo 'size_t videolora_builtin_count(void) { return sizeof files / sizeof files[0] - 1; }'
  echo
  echo 'struct videolora_builtin_file videolora_builtin_at(size_t index) {'
  echo '  size_t count = videolora_builtin_count();'
  echo '  return files[index < count ? index : count];'
  echo '}'
} > builtin.c.tmp
mv builtin.c.tmp builtin.c
