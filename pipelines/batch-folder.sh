#!/bin/sh
# Every video of a folder through transform.sh; finished files are left alone, so that a stopped run goes on.
# usage: batch-folder.sh IN_FOLDER OUT_FOLDER [transform.sh arguments…]
. "$(dirname "$0")/lib.sh"
need $# 2 "IN_FOLDER OUT_FOLDER [size=WxH|native] [property=value…]"
from=$1 to=$2
shift 2
[ -d "$from" ] || fail "'$from' is no folder"
mkdir -p "$to"
done=0 failed=0 kept=0
for file in "$from"/*; do
  case $file in *.mp4 | *.mkv | *.mov | *.avi | *.m4v) end=mp4 ;; *.webm) end=webm ;; *) continue ;; esac
  name=$(basename "$file")
  result=$to/${name%.*}.$end
  if [ -e "$result" ]; then
    kept=$((kept + 1))
  elif "$root/pipelines/transform.sh" "$file" "$result" "$@"; then
    done=$((done + 1))
    echo "$result"
  else
    failed=$((failed + 1))
    echo "failed: $file" >&2
  fi
done
echo "$done done, $kept there already, $failed failed"
[ "$failed" -eq 0 ]
