#!/bin/sh
# The engine on older processors (docs/RESULTS.md): simd.sh PATH_OF_VIDEOLORA
# Runs nano natively, at forced levels, and on processors that qemu-user emulates (Debian's package qemu-user), and
# compares the frames with the native ones. Needs Python with numpy.
set -eu
cd "$(dirname "$0")/../.."
videolora=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
make_clip() { # make_clip NAME COMMAND…
  name=$1
  shift
  "$@" generate --model builtin:nano --prompt "" --steps 2 --frames 2 --width 32 --height 32 --seed 3 \
    --lora builtin:poster=0.7 --output "$folder/$name.safetensors" >/dev/null 2>"$folder/errors" || {
    echo "$name: $(tail -1 "$folder/errors")"
    return
  }
  level=$("$@" doctor 2>/dev/null | grep -m1 "processor  " | sed 's/.*processor *//') || true
  python3 - "$name" "$level" "$folder/native-2.safetensors" "$folder/$name.safetensors" <<'PYTHON'
import json, sys
import numpy
def frames(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start, end = header["frames"]["data_offsets"]
        return numpy.frombuffer(file.read()[start:end], dtype=numpy.uint8).astype(int)
a, b = frames(sys.argv[3]), frames(sys.argv[4])
print(f"| {sys.argv[1]} | {sys.argv[2]} | {abs(a - b).max()} | {(a != b).mean():.1e} |")
PYTHON
}
echo "| run | doctor says | largest difference, levels of 255 | share of bytes that differ |"
echo "|---|---|---|---|"
make_clip native-2 "$videolora"
old="VIDEOLORA_SIMD=portable OPENBLAS_CORETYPE=Prescott DNNL_MAX_CPU_ISA=SSE41"
# shellcheck disable=SC2086
make_clip forced-portable env $old "$videolora"
make_clip forced-AVX2 env VIDEOLORA_SIMD=avx2 OPENBLAS_CORETYPE=Haswell DNNL_MAX_CPU_ISA=AVX2 "$videolora"
for processor in ${PROCESSORS:-Nehalem IvyBridge Haswell EPYC}; do
  make_clip "qemu-$processor" qemu-x86_64 -cpu "$processor" "$videolora"
done
