#!/bin/sh
# Quality of the narrow precisions (docs/RESULTS.md): precision.sh PATH_OF_VIDEOLORA [MODEL]
# 16 clips of 8 frames cut from media/ by GStreamer, video to video at strength 0.5; PSNR of the frames against those in f32.
# Needs Python with numpy.
set -eu
cd "$(dirname "$0")/../.."
videolora=$1
model=${2:-builtin:nano}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in bottles big_buck_bunny_5s; do
  gst-launch-1.0 -q filesrc location="media/$name.mp4" ! decodebin ! identity eos-after=65 ! videoconvert ! videoscale \
    ! video/x-raw,format=I420,width=128,height=128 ! y4menc ! filesink location="$folder/$name.y4m"
  for precision in f32 bf16 int8; do
    # Windows of 8 frames that share none are clips of their own.
    "$videolora" transform --model "$model" --input "$folder/$name.y4m" --output "$folder/$name.$precision.y4m" \
      --strength 0.5 --seed 1 --clip-length 8 --overlap 0 --precision "$precision" >/dev/null 2>&1
  done
done
python3 tools/results/precision.py "$folder" bottles big_buck_bunny_5s
