#!/bin/sh
# Six frames of one video over six of another, as one PNG. usage: contact-sheet.sh SOURCE RESULT OUT.png
. "$(dirname "$0")/lib.sh"
need $# 3 "SOURCE RESULT OUT.png"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
row=0
branches=
for video in "$1" "$2"; do
  gst-launch-1.0 -q filesrc location="$video" ! decodebin ! videoconvert ! videoscale \
    ! video/x-raw,format=RGB,width=256,height=144 ! pngenc compression-level=1 ! multifilesink location="$folder/$row-%05d.png"
  set -- "$1" "$2" "$3" "$folder/$row"-*.png
  frames=$(($# - 3))
  for column in 0 1 2 3 4 5; do
    picture=$(printf '%s/%d-%05d.png' "$folder" "$row" $(((frames - 1) * column / 5)))
    branches="$branches filesrc location=$picture ! pngdec ! videoconvert ! imagefreeze num-buffers=1 ! c.sink_$((row * 6 + column))"
  done
  row=$((row + 1))
  set -- "$1" "$2" "$3"
done
places=
for pad in 0 1 2 3 4 5 6 7 8 9 10 11; do
  places="$places sink_$pad::xpos=$((pad % 6 * 256)) sink_$pad::ypos=$((pad / 6 * 144))"
done
# shellcheck disable=SC2086 # lists of words
gst-launch-1.0 -q compositor name=c $places ! video/x-raw,width=1536,height=288 ! videoconvert ! video/x-raw,format=RGB \
  ! pngenc snapshot=true compression-level=9 ! filesink location="$3.partial" $branches
mv "$3.partial" "$3"
