#!/bin/sh
# The demonstration: one gst-launch-1.0 line on a real clip with the builtin model and a style adapter.
# Leaves out/demo.mp4 and out/demo.png (source frames over result frames). usage: demo.sh [OUTPUT_FOLDER]
. "$(dirname "$0")/lib.sh"
out=${1:-$root/out}
clip=$root/media/big_buck_bunny_5s.mp4
mkdir -p "$out"
line="gst-launch-1.0 -m filesrc location=$clip ! decodebin ! videoconvert ! videoscale \
! video/x-raw,format=RGB,width=256,height=144 ! videolora loras=<builtin:oil> lora_0::strength=1 strength=0.5 ! queue \
! videoconvert ! video/x-raw,format=I420 ! x264enc quantizer=18 pass=quant bframes=0 ! h264parse ! mp4mux \
! filesink location=$out/demo.mp4"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "restyling $clip, 132 frames 256x144; about a minute or two on 2 cores"
$line >"$log" 2>&1 || { grep -E 'ERROR|WARNING' "$log" >&2; fail "the pipeline failed"; }
"$root/pipelines/contact-sheet.sh" "$clip" "$out/demo.mp4" "$out/demo.png"
# The element's message at the end of the stream: key=(type)value, …
stat() { sed -n "s/.*videolora-stats.* $1=([a-z0-9]*)\([0-9.e-]*\).*/\1/p" "$log" | tail -1; }
awk -v f="$(stat frames)" -v c="$(stat clips)" -v e="$(stat encode-seconds)" -v n="$(stat denoise-seconds)" -v d="$(stat decode-seconds)" \
  'BEGIN { printf "%d frames in %d clips: encode %.1f s, denoise %.1f s, decode %.1f s\n", f, c, e, n, d }'
echo "GST_PLUGIN_PATH=${GST_PLUGIN_PATH-} $line" | sed "s/<[^>]*>/'&'/"
printf 'video  %s\nsheet  %s\n' "$out/demo.mp4" "$out/demo.png"
