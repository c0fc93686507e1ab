#!/bin/sh
# Training speed and memory against torch and peft on the judge's base model, taking turns in one run: the clock of a shared
# machine moves, so only turns beside each other compare.
#   training_speed.sh VIDEOLORA JUDGE [STEPS] [TURNS]   (JUDGE: the judge kit's folder; needs Python with torch, diffusers, peft)
set -eu
videolora=$1 judge=$2 steps=${3:-20} turns=${4:-2}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$judge/judge.py" world --n 64 --seed 500000000 --cameras pan_left --out "$work/clips.safetensors" >/dev/null
ours() {
  rm -f "$work/log.jsonl"
  "$videolora" train lora --model "$judge/base" --data "$work/clips.safetensors" --output "$work/a.safetensors" --rank 8 --batch 8 \
    --lr 0.001 --steps "$((steps + 2))" --threads "$1" --log "$work/log.jsonl" --json >"$work/result.json"
  python3 - "$work" "$1" <<'P'
import json, sys
t = [json.loads(x)["seconds"] for x in open(sys.argv[1] + "/log.jsonl")]
d = sorted(b - a for a, b in zip(t[1:], t[2:]))
peak = json.load(open(sys.argv[1] + "/result.json"))["peak_rss_bytes"]
print(f"videolora, {sys.argv[2]} threads: {1 / d[0]:.3f} it/s best, {1 / d[len(d) // 2]:.3f} median, {peak / 2**20:.0f} MiB", flush=True)
P
}
turn=0
while [ "$turn" -lt "$turns" ]; do
  ours 2
  python3 "$here/training_peft.py" --judge "$judge" --mode lean --ranks 2 --steps "$steps"
  turn=$((turn + 1))
done
ours 2
ours 1
for mode in lean peft; do python3 "$here/training_peft.py" --judge "$judge" --mode $mode --steps "$steps"; done
