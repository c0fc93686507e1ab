#!/bin/sh
# Lives of the element, for leaks: LIVES times NULL to PLAYING and back in one process (growth of memory), then pipelines
# under the leaks tracer (objects left). GLib criticals are fatal. Usage: GST_PLUGIN_PATH=… plugin/soak.sh [LIVES]
set -eu
cd "$(dirname "$0")/.."
export G_DEBUG=fatal-criticals GST_DEBUG_NO_COLOR=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

VIDEOLORA_SOAK=${1:-200} swift test ${SWIFT_TEST_FLAGS:-} --filter livesLeaveNothingBehind >"$log" 2>&1 || {
  tail -40 "$log"
  exit 1
}
grep 'RSS growth' "$log"

left=0
for pipeline in \
  "videotestsrc num-buffers=19 ! video/x-raw,format=RGB,width=64,height=48 ! videolora steps=2 ! fakesink" \
  "videotestsrc num-buffers=19 ! video/x-raw,format=RGBx,width=64,height=48 ! queue ! videolora strength=0 ! queue ! fakesink" \
  "videolorasrc steps=2 num-clips=2 ! videolora steps=2 ! fakesink" \
  "videotestsrc num-buffers=19 ! video/x-raw,format=RGB,width=64,height=48 ! videolora model=/nowhere ! fakesink"; do
  GST_TRACERS=leaks GST_DEBUG=GST_TRACER:7 gst-launch-1.0 $pipeline >"$log" 2>&1 || true
  grep -q 'GST_TRACER' "$log" || { tail -5 "$log"; exit 1; }
  here=$(grep -c 'object-alive, type-name=(string)[^%]' "$log" || true)
  echo "$here objects left: $pipeline"
  left=$((left + here))
done
[ "$left" -eq 0 ]
