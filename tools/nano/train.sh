#!/bin/sh
# Trains an adapter of the builtin model with the engine: clips from photos, then `videolora train` with the recipe of its name.
#   tools/nano/train.sh NAME PHOTOS WORK [OUTPUT] [further options of `videolora train`]
# PHOTOS: a folder of the photos in photos.tsv; SPRITES: one of cut-outs, in the environment, may be missing; VIDEOLORA: the tool.
# The clips stay in WORK/NAME; a second call goes on where an interrupted one stopped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=$1 photos=$2 work=$3 output=${4:-$here/../../models/adapters/$1.safetensors}
shift 3
[ $# -gt 0 ] && shift
tool=${VIDEOLORA:-$here/../../.build/release/videolora}
case $name in
  pan_* | tilt_* | zoom_*) what=--camera count=128 ;;
  *) what=--filter count=160 ;;
esac
if [ ! -e "$work/$name/done" ]; then
  python3 "$here/clips.py" --photos "$photos" ${SPRITES:+--sprites "$SPRITES"} $what "$name" --count $count --out "$work/$name"
  touch "$work/$name/done"
fi
[ -e "${output%.safetensors}.resume.safetensors" ] && set -- --resume "$@"
exec "$tool" train "$here/recipes/$name.json" --model builtin:nano --data "$work/$name" --any-size --dtype bf16 --output "$output" "$@"
