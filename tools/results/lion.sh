#!/bin/sh
# LiON-LoRA against a plain LoRA on the judge kit's base model: tables and a verdict (lion.py says how).
#   lion.sh VIDEOLORA --judge DIR --work DIR [--jobs 2] [--threads 1] [--grid-seeds 64] [--only train|generate|score] [--adapters DIR]
set -eu
exec python3 "$(dirname "$0")/lion.py" "$@"
