#!/bin/sh
# fuzz.sh MINUTES [TARGET...]: libFuzzer on every reader of files, MINUTES for each. See README.md.
set -eu
cd "$(dirname "$0")/../.."
minutes=${1:?minutes for each target}
shift
work=.build-fuzz
VIDEOLORA_FUZZ=1 swift build -c release --scratch-path "$work" --product videolora-fuzz -Xswiftc -sanitize=fuzzer
tool=$PWD/$work/release/videolora-fuzz
[ $# -gt 0 ] || set -- $(ls Tests/Fuzz/corpus)
export SWIFT_BACKTRACE=enable=no
mkdir -p Tests/Fuzz/findings
status=0
for target; do
  learnt=$work/corpus/$target
  log=$work/$target.log
  mkdir -p "$learnt"
  echo "== $target: $minutes min, seed ${SEED:=1}"
  # In forks: a crash ends one of them, its input is kept, and the run goes on.
  VIDEOLORA_FUZZ_TARGET=$target VIDEOLORA_FUZZ_WORST=$PWD/$work/$target.worst nice -n 10 "$tool" \
    -fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 -timeout=2 -rss_limit_mb=2048 -max_len=16384 \
    -seed="$SEED" -max_total_time=$((minutes * 60)) -artifact_prefix="Tests/Fuzz/findings/$target-" \
    "$learnt" "Tests/Fuzz/corpus/$target" >"$log" 2>&1 || status=1
  grep -E '^#[0-9]+' "$log" | tail -1
  found=$(find Tests/Fuzz/findings -name "$target-*" | wc -l)
  echo "   findings: $found   worst: $(cat "$work/$target.worst") (share of what the rules allow: single allocation, bytes alive)"
  [ "$found" -eq 0 ] || status=1
done
# Another run beside this one still needs its scratch folder.
pgrep -x videolora-fuzz >/dev/null || rm -rf /dev/shm/videolora-fuzz-*
exit $status
