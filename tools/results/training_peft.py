"""Iterations per second and peak memory of a LoRA trained with torch and peft on the judge's base model, f32, rank 8, batch 8,
q k v out of both attentions: what `videolora train` is compared with. Data are made before the clock starts.

  python3 training_peft.py --judge DIR --steps 20              # every setting
  python3 training_peft.py --judge DIR --mode lean --ranks 2   # one of them: lean (the kit's own fast forward pass) or peft
With --ranks 2 two processes of one thread each work on half of the batch; they exchange no gradients, which favours them.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time

p = argparse.ArgumentParser()
p.add_argument("--judge", required=True)
p.add_argument("--mode", choices=["peft", "lean"])
p.add_argument("--ranks", type=int, default=1)
p.add_argument("--rank", type=int)
p.add_argument("--steps", type=int, default=20)
p.add_argument("--batch", type=int, default=8)
a = p.parse_args()

if a.mode is None or a.rank is None:
    runs = [(a.mode, a.ranks)] if a.mode else [("peft", 1), ("lean", 1), ("lean", 2)]
    for mode, ranks in runs:
        jobs = [subprocess.Popen([sys.executable, __file__, "--judge", a.judge, "--mode", mode, "--ranks", str(ranks), "--rank", str(r),
                                  "--steps", str(a.steps), "--batch", str(a.batch)], stdout=subprocess.PIPE) for r in range(ranks)]
        got = [json.loads(j.communicate()[0]) for j in jobs]
        print(f"{mode}, {ranks} x {2 // ranks} threads: {min(g['best'] for g in got):.3f} it/s best, "
              f"{min(g['median'] for g in got):.3f} median, {sum(g['peak'] for g in got) / 2**20:.0f} MiB", flush=True)
    sys.exit()

sys.path.insert(0, a.judge)
import torch
import basemodel as B
import vanilla
import world as W
from lean import Lean

torch.set_num_threads(2 // a.ranks)
torch.manual_seed(0)
batch = a.batch // a.ranks
model, table = B.load_pipeline(os.path.join(a.judge, "base"))
vanilla.add_adapter(model, "v")
ps = [q for n, q in model.named_parameters() if ".lora_" in n]
for q in ps:
    q.requires_grad_(True)
forward = Lean(model, torch.float32) if a.mode == "lean" else lambda x, t, e: model(x, t, e, return_dict=False)
opt = torch.optim.AdamW(ps, lr=1e-3, weight_decay=0.01)
f, labels = W.clips(batch, 500_000_000, motions=W.BASE_MOTIONS, cameras=["pan_left"], camera_amp=(0.9, 1.0), still_frac=0.3)
e = B.encode(table, W.label_tokens(labels))
seconds = []
for it in range(a.steps + 2):
    t0 = time.time()
    s = torch.rand(batch)
    eps, sv = torch.randn_like(f), s.view(-1, 1, 1, 1, 1)
    v = forward(B.with_coords((1 - sv) * f + sv * eps), s * 1000, e)[0]
    loss = (v - (eps - f)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(ps, 1.0)
    opt.step()
    if it >= 2:
        seconds.append(time.time() - t0)
seconds.sort()
print(json.dumps(dict(best=1 / seconds[0], median=1 / seconds[len(seconds) // 2],
                      peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))
