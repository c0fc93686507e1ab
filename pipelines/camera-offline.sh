#!/bin/sh
# A camera, or a test picture where there is none, into a stylised file. The camera runs in real time, the model does not: frames wait
# in a queue, none is lost. usage: camera-offline.sh OUT [seconds=5] [element property=value…]
. "$(dirname "$0")/lib.sh"
need $# 1 "OUT [seconds=N] [property=value…]"
out=$1 length=5
shift
case ${1-} in seconds=*) length=${1#seconds=}; shift ;; esac
source="videotestsrc is-live=true pattern=ball num-buffers=$((length * 25))"
[ ! -e /dev/video0 ] || source="v4l2src num-buffers=$((length * 25))"
width=256 height=144
writer "$out"
trap 'rm -f "$out.partial"' EXIT
# shellcheck disable=SC2086 # lists of words
gst-launch-1.0 -q $source ! videoconvert ! videoscale ! "video/x-raw,format=RGB,width=$width,height=$height" \
  ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! videolora "$@" ! queue ! videoconvert \
  ! "video/x-raw,format=$video_format" ! $encoder ! queue ! $muxer ! filesink location="$out.partial"
mv "$out.partial" "$out"
