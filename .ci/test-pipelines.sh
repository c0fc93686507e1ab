#!/bin/sh
# Runs every script of pipelines/ on small media made here and compares frames, timestamps and audio packets.
set -eu
cd "$(dirname "$0")/.."
export GST_REGISTRY="${GST_REGISTRY:-$PWD/.build-static/registry.bin}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# No pipeline may hang: each has five minutes, in the scripts too.
mkdir "$folder/bin"
for tool in gst-launch-1.0 gst-discoverer-1.0; do
  printf '#!/bin/sh\nexec timeout -v 300 %s "$@"\n' "$(command -v $tool)" >"$folder/bin/$tool"
  chmod +x "$folder/bin/$tool"
done
PATH=$folder/bin:$PATH
passed=0 failed=0
check() { # check WHAT COMMAND…
  what=$1
  shift
  if "$@" >"$folder/log" 2>&1; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAILED: $what"
    sed 's/^/    /' "$folder/log" | tail -15
  fi
}

# frames FILE: a line per video frame with its timestamp in milliseconds. Sound goes to a sink of its own: unlinked
# behind decodebin, GStreamer 1.22 now and then loses the end of the stream (pipelines/README.md).
frames() {
  other=
  if gst-discoverer-1.0 "$1" | grep -q 'audio #'; then other='d. ! audio/x-raw ! fakesink sync=false'; fi
  # shellcheck disable=SC2086 # a list of words
  gst-launch-1.0 -v filesrc location="$1" ! decodebin name=d $other d. ! video/x-raw ! fakesink name=v silent=false sync=false 2>/dev/null |
    sed -n 's/.*GstFakeSink:v: .*chain.*pts: \([0-9]*\):\([0-9]*\):\([0-9.]*\),.*/\1 \2 \3/p' |
    awk '{ t = $1 * 3600 + $2 * 60 + $3; if (NR == 1) first = t; printf "%d\n", (t - first) * 1000 + .5 }'
}
sound() { gst-launch-1.0 -q filesrc location="$1" ! parsebin ! "$2" ! filesink location="$3"; }
size() { gst-discoverer-1.0 -v "$1" | sed -n 's/^ *\(Width\|Height\): *//p' | head -2 | paste -sd x; }

# near A B: as many frames, timestamps at most TOLERANCE (2) milliseconds apart.
near() {
  frames "$1" >"$folder/a"
  frames "$2" >"$folder/b"
  [ -s "$folder/a" ] || { echo "no frames in $1"; return 1; }
  paste "$folder/a" "$folder/b" | awk -v t="${TOLERANCE:-2}" 'NF != 2 || $1 - $2 > t || $2 - $1 > t { print NR ": " $0; bad = 1 } END { exit bad }'
}
same_size() { [ "$(size "$1")" = "$(size "$2")" ] || { echo "$(size "$1") and $(size "$2")"; return 1; }; }

make_clip() { # make_clip NAME FRAMES WIDTH HEIGHT RATE FORMAT [extra element…]
  gst-launch-1.0 -q videotestsrc num-buffers="$2" pattern=ball ! "video/x-raw,width=$3,height=$4,framerate=$5,format=$6" ${7-} \
    ! x264enc bframes=0 ! h264parse ! mp4mux ! filesink location="$folder/$1"
}
make_sound() { # with half a second of tone: make_sound NAME VIDEO_ENCODER AUDIO_ENCODER MUXER
  # shellcheck disable=SC2086
  gst-launch-1.0 -q videotestsrc num-buffers=13 pattern=ball ! video/x-raw,width=90,height=160,framerate=25/1 ! $2 ! queue ! m. \
    audiotestsrc num-buffers=22 ! audio/x-raw,rate=44100,channels=1 ! audioconvert ! $3 ! queue ! m. $4 name=m ! filesink location="$folder/$1"
}

fast='steps=1 size=64x48 guidance-scale=1'
transformed() { # transformed IN OUT
  # shellcheck disable=SC2086
  pipelines/transform.sh "$folder/$1" "$folder/$2" $fast && near "$folder/$1" "$folder/$2" && same_size "$folder/$1" "$folder/$2"
}

make_clip odd.mp4 9 853 479 25/1 Y444
make_clip film.mp4 13 128 72 24000/1001 I420
make_clip one.mp4 1 128 72 25/1 I420
make_clip variable.mp4 24 128 72 25/1 I420 "! identity drop-probability=0.3"
make_sound portrait.mp4 "x264enc bframes=0 ! h264parse" avenc_aac mp4mux
make_sound sound.webm "vp8enc deadline=1" vorbisenc webmmux

check "odd size" transformed odd.mp4 odd-out.mp4
check "odd size to WebM" transformed odd.mp4 odd-out.webm
check "23.976 fps, no multiple of the window" transformed film.mp4 film-out.mp4
check "one frame" transformed one.mp4 one-out.mp4
check "variable frame rate" transformed variable.mp4 variable-out.mp4
check "portrait with audio" transformed portrait.mp4 portrait-out.mp4
check "VP8/WebM with audio" transformed sound.webm sound-out.webm
same_sound() { sound "$folder/$1" "$3" "$folder/1.raw" && sound "$folder/$2" "$3" "$folder/2.raw" && test -s "$folder/1.raw" && cmp "$folder/1.raw" "$folder/2.raw"; }
check "AAC packets unchanged" same_sound portrait.mp4 portrait-out.mp4 audio/mpeg
check "Vorbis packets unchanged" same_sound sound.webm sound-out.webm audio/x-vorbis
check "audio that WebM cannot hold is encoded anew" transformed portrait.mp4 portrait-out.webm

check "strength ramp" pipelines/strength-ramp.sh "$folder/film.mp4" "$folder/ramp.mp4" steps=1 size=64x48
check "strength ramp keeps the frames" near "$folder/film.mp4" "$folder/ramp.mp4"
check "side by side" pipelines/side-by-side.sh "$folder/film.mp4" "$folder/side.mp4" steps=1 guidance-scale=1
check "side by side keeps the frames" near "$folder/film.mp4" "$folder/side.mp4"
check "camera" pipelines/camera-offline.sh "$folder/camera.mp4" seconds=1 steps=1 guidance-scale=1
counted() { [ "$(frames "$1" | wc -l)" -eq "$2" ] || { echo "$(frames "$1" | wc -l) frames, expected $2"; return 1; }; }
check "camera loses no frame" counted "$folder/camera.mp4" 25
mkdir "$folder/in"
cp "$folder/one.mp4" "$folder/film.mp4" "$folder/in"
# shellcheck disable=SC2086
check "batch" pipelines/batch-folder.sh "$folder/in" "$folder/batch" $fast
resumed() { pipelines/batch-folder.sh "$folder/in" "$folder/batch" | grep -q '0 done, 2 there already, 0 failed'; }
check "batch goes on" resumed
check "contact sheet" pipelines/contact-sheet.sh "$folder/film.mp4" "$folder/ramp.mp4" "$folder/sheet.png"
check "contact sheet is a picture" gst-discoverer-1.0 "$folder/sheet.png"
refused() { ! pipelines/transform.sh "$@" && ! ls "$folder"/*.partial 2>/dev/null; }
check "a missing file is refused" refused "$folder/none.mp4" "$folder/x.mp4"
check "an unknown container is refused" refused "$folder/one.mp4" "$folder/x.avi"
check "a missing model leaves nothing behind" refused "$folder/one.mp4" "$folder/x.mp4" model=/nonexistent
for script in pipelines/*.sh; do check "$script has at most 40 lines" test "$(wc -l <"$script")" -le 40; done

echo "pipelines: $passed checks passed, $failed failed"
[ "$failed" -eq 0 ]
