#!/bin/sh
# An adapter fading in over the clip: its strength goes from 0 to 1 by strength-curve, frame by frame.
# usage: strength-ramp.sh IN OUT [adapter=builtin:oil] [element property=value…]
. "$(dirname "$0")/lib.sh"
need $# 2 "IN OUT [adapter=FILE] [property=value…]"
in=$1 out=$2 adapter=builtin:oil
shift 2
case ${1-} in adapter=*) adapter=${1#adapter=}; shift ;; esac
probe "$in"
"$root/pipelines/transform.sh" "$in" "$out" loras="<$adapter>" lora_0::strength-curve="0:0, ${seconds}s:1" "$@"
