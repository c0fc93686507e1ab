#!/bin/sh
# Text to video with AnimateDiff, a style LoRA and a MotionLoRA together: the style fades out while the motion fades in, frame by frame.
# usage: animatediff.sh MODEL STYLE_LORA MOTION_LORA OUT [size=512x512] [property=value…], such as motion-module=FILE prompt='a harbour at dawn'
. "$(dirname "$0")/lib.sh"
need $# 4 "MODEL STYLE_LORA MOTION_LORA OUT [size=WxH] [property=value…]"
model=$1 style=$2 motion=$3 out=$4 width=512 height=512
shift 4
case ${1-} in size=*x*) width=${1#size=} height=${1#*x} width=${width%x*}; shift ;; esac
writer "$out"
trap 'rm -f "$out.partial"' EXIT
# shellcheck disable=SC2086 # lists of words
gst-launch-1.0 -q videolorasrc model="$model" loras="<$style, $motion>" lora_0::strength-curve="0:1, 2s:0.3" \
  lora_1::strength-curve="0:0, 1s:1" "$@" ! "video/x-raw,width=$width,height=$height,framerate=8/1" ! queue ! videoconvert \
  ! "video/x-raw,format=$video_format" ! $encoder ! queue ! $muxer ! filesink location="$out.partial"
mv "$out.partial" "$out"
