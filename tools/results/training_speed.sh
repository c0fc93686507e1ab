#!/bin/sh
# Training speed and memory against torch and peft on the judge's base model, one after the other in one run.
#   training_speed.sh VIDEOLORA JUDGE [STEPS]     (JUDGE: the judge kit's folder; needs Python with torch, diffusers, peft)
set -eu
videolora=$1 judge=$2 steps=${3:-20}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$judge/judge.py" world --n 64 --seed 500000000 --cameras pan_left --out "$work/clips.safetensors" >/dev/null
python3 "$here/training_peft.py" --judge "$judge" --steps "$steps"
for threads in 1 2; do
  "$videolora" train lora --model "$judge/base" --data "$work/clips.safetensors" --output "$work/a.safetensors" --rank 8 --batch 8 \
    --lr 0.001 --steps "$((steps + 2))" --threads $threads --log "$work/log.jsonl" --json >"$work/result.json"
  python3 - "$work" $threads <<'P'
import json, sys
t = [json.loads(x)["seconds"] for x in open(sys.argv[1] + "/log.jsonl")]
d = sorted(b - a for a, b in zip(t[1:], t[2:]))
peak = json.load(open(sys.argv[1] + "/result.json"))["peak_rss_bytes"]
print(f"videolora, {sys.argv[2]} threads: {1 / d[0]:.3f} it/s best, {1 / d[len(d) // 2]:.3f} median, {peak / 2**20:.0f} MiB", flush=True)
P
done
