#!/bin/sh
# Source on the left, result on the right, in one video. usage: side-by-side.sh IN OUT [element property=value…]
. "$(dirname "$0")/lib.sh"
need $# 2 "IN OUT [property=value…]"
in=$1 out=$2
shift 2
probe "$in"
set_size=$(working_size "$width" "$height" "$@")
w=${set_size% *} h=${set_size#* }
width=$((2 * w)) height=$h
writer "$out"
trap 'rm -f "$out.partial"' EXIT
# The untouched branch waits while the other gathers a window.
# shellcheck disable=SC2086 # lists of words
gst-launch-1.0 -q filesrc location="$in" ! decodebin ! videoconvert ! videoscale add-borders=false \
  ! "video/x-raw,format=RGB,width=$w,height=$h,pixel-aspect-ratio=1/1" ! tee name=t \
  t. ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! c.sink_0 \
  t. ! queue ! videolora "$@" ! queue ! c.sink_1 \
  compositor name=c sink_1::xpos="$w" ! "video/x-raw,width=$width,height=$h" ! videoconvert \
  ! "video/x-raw,format=$video_format" ! $encoder ! queue ! $muxer ! filesink location="$out.partial"
mv "$out.partial" "$out"
