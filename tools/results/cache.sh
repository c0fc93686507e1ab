#!/bin/sh
# The first-block cache on nano: speed-up and PSNR at several thresholds (docs/RESULTS.md): cache.sh PATH_OF_VIDEOLORA
# Two clips of media/, FRAMES (48) frames 256x144, video to video. Needs Python with numpy.
set -eu
cd "$(dirname "$0")/../.."
videolora=$1
strength=${STRENGTH:-0.7}
steps=${STEPS:-20}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for clip in bottles big_buck_bunny_5s; do
  gst-launch-1.0 -q filesrc location="media/$clip.mp4" ! decodebin ! identity eos-after="$((${FRAMES:-48} + 1))" ! videoconvert ! videoscale \
    ! video/x-raw,format=I420,width=256,height=144 ! y4menc ! filesink location="$folder/$clip.y4m"
done
echo "| clip | threshold | steps left out | denoising | speed-up of denoising | of all | PSNR, dB |"
echo "|---|---|---|---|---|---|---|"
for clip in bottles big_buck_bunny_5s; do
  for threshold in 0 ${THRESHOLDS:-0.05 0.1 0.2}; do
    for _ in 1 2; do
      "$videolora" transform --input "$folder/$clip.y4m" --output "$folder/$threshold.y4m" --strength "$strength" \
        --steps "$steps" --cache-threshold "$threshold" --json 2>/dev/null >>"$folder/$clip.$threshold.json"
    done
  done
  for threshold in 0 ${THRESHOLDS:-0.05 0.1 0.2}; do
    psnr=$(python3 tools/results/psnr.py "$folder/0.y4m" "$folder/$threshold.y4m")
    python3 - "$clip" "$threshold" "$psnr" "$folder/$clip.0.json" "$folder/$clip.$threshold.json" <<'PYTHON'
import json, sys
clip, threshold, psnr = sys.argv[1:4]
def best(path):
    with open(path) as file:
        text, runs, decoder = file.read().strip(), [], json.JSONDecoder()
    while text:
        run, end = decoder.raw_decode(text)
        runs.append(run)
        text = text[end:].strip()
    return runs[0], min(run["denoise_s"] for run in runs), min(run["seconds"] for run in runs)
(_, base, whole), (run, denoise, seconds) = best(sys.argv[4]), best(sys.argv[5])
print(f"| {clip} | {threshold} | {run['cached_steps']} of {run['steps']} | {denoise:.2f} s | {base / denoise:.2f} | "
      f"{whole / seconds:.2f} | {psnr} |")
PYTHON
  done
done
