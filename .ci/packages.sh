#!/bin/sh
# Installs the Debian packages that are missing; runs apt only when one is.
set -eu

packages=$(sed 's/#.*//' <<'LIST'
ca-certificates                     # fetching the Swift package of Package.swift
git                                 # the same
make
binutils                            # the linker of the Swift toolchain, nm for the symbol check
gcc                                 # start files and libgcc for the toolchain's linker
libc6-dev                           # C headers for the C targets
libstdc++-12-dev                    # the Swift runtime is linked with it
libcurl4                            # the Swift package manager needs these five
libsqlite3-0
libxml2
libncurses6
tzdata
zlib1g-dev                          # statically linked Foundation of the command line
pkg-config                          # finds GStreamer and OpenBLAS
libopenblas-dev                     # matrix products in f32
libdnnl-dev                         # oneDNN: convolutions
libsentencepiece-dev                # tokenizer of T5 and UMT5
libgstreamer1.0-dev                 # the elements are built with these two
libgstreamer-plugins-base1.0-dev
gstreamer1.0-tools                  # gst-launch-1.0, gst-inspect-1.0
gstreamer1.0-plugins-base           # videoconvert, videoscale, decodebin, compositor, opus and vorbis
gstreamer1.0-plugins-base-apps      # gst-discoverer-1.0: sizes and codecs of a file
gstreamer1.0-plugins-good           # MP4 and WebM containers, VP8, PNG, cameras
gstreamer1.0-plugins-bad            # H.264 parser, y4m
gstreamer1.0-plugins-ugly           # H.264 encoder (x264enc)
gstreamer1.0-libav                  # H.264 and AAC decoders
LIST
)

missing=
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "packages.sh: root or sudo is needed to install:$missing" >&2
    exit 1
  }
  as_root=sudo
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$as_root apt-get install -y -qq --no-install-recommends $missing
