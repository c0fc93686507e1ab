#!/bin/sh
# Any media file through videolora into H.264/MP4 or VP8/WebM, audio passed through where the container holds it.
# usage: transform.sh IN OUT [size=WxH|native] [element property=value…]
. "$(dirname "$0")/lib.sh"
need $# 2 "IN OUT [size=WxH|native] [property=value…]"
in=$1 out=$2
shift 2
probe "$in"
writer "$out"
set_size=$(working_size "$width" "$height" "$@")
work_width=${set_size% *} work_height=${set_size#* }
count=$#
while [ "$count" -gt 0 ]; do
  argument=$1
  shift
  case $argument in
    size=native) work_width=$width work_height=$height ;;
    size=*x*) argument=${argument#size=} work_width=${argument%x*} work_height=${argument#*x} ;;
    *) set -- "$@" "$argument" ;;
  esac
  count=$((count - 1))
done

trap 'rm -f "$out.partial"' EXIT
sound=
for name in $holds; do
  [ "$audio" != "$name" ] || sound="d. ! $name ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! m.audio_0"
done
[ -z "$audio" ] || [ -n "$sound" ] ||
  sound="d. ! audio/x-raw ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! $reencode ! queue ! m.audio_0"
stop='video/x-raw;audio/x-raw'
for name in $holds; do stop="$stop;$name"; done

# shellcheck disable=SC2086 # encoder, muxer and sound are lists of words
gst-launch-1.0 ${QUIET--q} filesrc location="$in" ! decodebin name=d caps="$stop" \
  d. ! video/x-raw ! queue ! videoconvert ! videoscale add-borders=false \
  ! "video/x-raw,format=RGB,width=$work_width,height=$work_height,pixel-aspect-ratio=1/1" ! videolora "$@" ! queue \
  ! videoscale add-borders=false ! videoconvert ! "video/x-raw,format=$video_format,width=$width,height=$height" \
  ! $encoder ! queue ! m.video_0 $sound $muxer name=m ! filesink location="$out.partial"
mv "$out.partial" "$out"
