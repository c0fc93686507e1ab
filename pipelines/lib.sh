# Shared by the scripts here: where the plugin is, what a file holds, working size, encoders. Sourced, not run.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
built=${VIDEOLORA_PLUGIN_DIR:-$root/.build-static/release}
[ ! -e "$built/libgstvideolora.so" ] || export GST_PLUGIN_PATH="$built${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
fail() { echo "$(basename "$0"): $*" >&2; exit 1; }
need() { [ "$1" -ge "$2" ] || { echo "usage: $(basename "$0") $3" >&2; exit 2; }; }

# probe FILE: sets width, height, seconds and audio (a caps name, or nothing).
probe() {
  [ -r "$1" ] || fail "cannot read '$1'"
  facts=$(gst-discoverer-1.0 -v "$1") || fail "'$1' is no media file that GStreamer can read"
  width=$(echo "$facts" | sed -n 's/^ *Width: *//p' | head -1)
  height=$(echo "$facts" | sed -n 's/^ *Height: *//p' | head -1)
  [ -n "$width" ] || fail "'$1' has no video"
  seconds=$(echo "$facts" | sed -n 's/^ *Duration: *//p' | head -1 | awk -F: '{print $1 * 3600 + $2 * 60 + $3}')
  audio=$(echo "$facts" | sed -n 's/^ *audio #[0-9]*: *\(audio\/[a-z0-9-]*\).*/\1/p' | head -1)
}
. "$root/pipelines/size.sh"
# writer OUT: sets video_format, encoder, muxer and the audio names that its container holds unchanged.
writer() {
  case $1 in
    *.mp4)
      muxer=mp4mux holds='audio/mpeg audio/x-opus' reencode='audioconvert ! audioresample ! avenc_aac'
      video_format=I420 encoder='x264enc speed-preset=medium quantizer=18 pass=quant bframes=0 ! h264parse'
      # H.264 has no odd sizes in 4:2:0.
      [ $((width % 2 + height % 2)) -eq 0 ] || video_format=Y444 ;;
    *.webm)
      muxer=webmmux holds='audio/x-vorbis audio/x-opus' reencode='audioconvert ! audioresample ! vorbisenc'
      video_format=I420 encoder='vp8enc deadline=1 end-usage=cq cq-level=8 target-bitrate=20000000 threads=2' ;;
    *) fail "'$1': the output must end in .mp4 or .webm" ;;
  esac
}
