#!/bin/sh
# MotionLoRA on the tiny UNet of tools/bench-unet, scored by the judge kit: a table and a verdict (motionlora.py says how).
#   motionlora.sh VIDEOLORA --judge DIR --work DIR [--seeds 32] [--steps 600] [--only sources|train|generate|score]
set -eu
exec python3 "$(dirname "$0")/motionlora.py" "$@"
