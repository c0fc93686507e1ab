#!/bin/sh
# Figures of windows and per-frame strengths (docs/RESULTS.md): windows.sh PATH_OF_VIDEOLORA [CLIP.y4m …]
# Without clips it uses those of media/, scaled by GStreamer to 256x144. Needs Python with numpy.
set -eu
cd "$(dirname "$0")/../.."
videolora=$1
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cut() { # cut CLIP FRAMES OUT
  gst-launch-1.0 -q filesrc location="$1" ! decodebin ! identity eos-after="$(($2 + 1))" ! videoconvert ! videoscale \
    ! video/x-raw,format=I420,width=256,height=144 ! y4menc ! filesink location="$3"
}
cut media/bottles.mp4 50 "$folder/bottles.y4m"
cut media/big_buck_bunny_5s.mp4 50 "$folder/bunny.y4m"
[ $# -gt 0 ] || set -- "$folder/bottles.y4m" "$folder/bunny.y4m"
for strength in 0.3 0.5; do
  for adapter in "" "--lora builtin:poster=1"; do
    # shellcheck disable=SC2086
    "$videolora" transform --input "$folder/bottles.y4m" --output "$folder/out.y4m" --strength $strength $adapter >/dev/null 2>&1
    echo "seam, bottles.mp4, strength $strength $adapter: $(python3 tools/results/seam.py "$folder/out.y4m")"
  done
done
echo "animated strength: $(python3 tools/results/step_strength.py --videolora "$videolora" --adapter builtin:poster "$@")"
