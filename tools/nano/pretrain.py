"""Trains the nano model on the latents of prepare.py.  Interrupt at will: the same command goes on from the last checkpoint.

  python3 pretrain.py --work DIR --out models/nano --minutes 60 [--device cuda] [--ranks 2]

Flow matching (v = noise - clip) with logit-normal times, captions dropped 12 % of the time, single words 10 %; half of the clips
with the noise that frames share in video to video.  Muon for the matrices of the blocks, AdamW for the rest, EMA.  --ranks starts
that many one-thread processes whose gradients are averaged (on CPUs quicker than threads).  New shards of a prepare.py that still runs
are picked up every few minutes.
"""
import argparse
import glob
import json
import math
import os
import time
import torch
import torch.nn.functional as F
from safetensors import safe_open
import nano
from fastwan import FastWan
import ranks
from vocabulary import REVERSED, rows

# latent sizes (w, h) a batch is cut to, with their share of the batches
BUCKETS = [((8, 8), .22), ((12, 8), .18), ((8, 12), .07), ((12, 12), .18), ((16, 16), .10), ((18, 10), .12), ((24, 14), .07),
           ((32, 18), .06)]
TOKENS = 2048                                            # per batch over all ranks


class Latents:
    """All shards of a folder in memory (fp16)."""

    def __init__(self, folder):
        self.folder, self.seen, self.items, self.mean, self.std = folder, set(), [], None, None
        self.refresh()

    def refresh(self):
        for path in sorted(glob.glob(f"{self.folder}/*.safetensors")):
            if path in self.seen:
                continue
            self.seen.add(path)
            with safe_open(path, "pt") as f:
                captions = json.loads(f.metadata()["captions"])
                self.items += [(f.get_tensor(k), rows(captions[k])) for k in sorted(f.keys(), key=int)]
        self.fitting = {}
        for (w, h), _ in BUCKETS:
            ok = [i for i, (z, _) in enumerate(self.items) if z.shape[3] >= w and z.shape[2] >= h]
            self.fitting[w, h] = [[i for i in ok if len(self.items[i][0]) > 1], [i for i in ok if len(self.items[i][0]) == 1]]

    def statistics(self):
        n = s = q = 0
        for z, _ in self.items[:1500]:
            z = z.float()
            n, s, q = n + z[:, 0].numel(), s + z.sum((0, 2, 3), dtype=torch.float64), q + z.square().sum((0, 2, 3), dtype=torch.float64)
        mean = s / n
        return mean.float(), (q / n - mean * mean).sqrt().float()

    def batch(self, g, bucket, count):
        """-> normalised latents [n,32,8,h,w], ids [n,8]"""
        w, h = bucket
        clips, ids = [], []
        while len(clips) < count:
            moving = torch.rand((), generator=g) < .65
            choice = self.fitting[bucket][0 if moving else 1] or self.fitting[bucket][1 if moving else 0]
            z, words = self.items[choice[int(torch.randint(len(choice), (), generator=g))]]
            sy, sx = z.shape[2] - h, z.shape[3] - w
            # corners twice as often as chance: they carry the encoder's border
            y = int((torch.rand((), generator=g) * 1.6 - .3).clamp(0, 1) * sy + .5)
            x = int((torch.rand((), generator=g) * 1.6 - .3).clamp(0, 1) * sx + .5)
            if len(z) > 1 and torch.rand((), generator=g) < .5:         # played backwards: frames are encoded one by one
                z, words = z.flip(0), [REVERSED[i] for i in words]
            clips.append(z[:, :, y:y + h, x:x + w].float().permute(1, 0, 2, 3).expand(32, 8, h, w))
            ids.append(words)
        z = (torch.stack(clips) - self.mean.view(1, -1, 1, 1, 1)) / self.std.view(1, -1, 1, 1, 1)
        ids = torch.tensor(ids)
        ids = ids * (torch.rand(ids.shape, generator=g) > .1)
        return z, ids * (torch.rand(count, 1, generator=g) > .12)


def noise_like(z, s, g):
    """Unit noise for clips [n,32,F,h,w] at levels s [n]: for one half every frame its own, for the other shared as on the way down from a
    level of at least s."""
    start = s + (1 - s) * torch.rand(s.shape, generator=g)
    start = torch.where(torch.rand(s.shape, generator=g) < .5, start, 1.0).view(-1, 1, 1, 1, 1)
    return nano.share_noise(torch.randn(z.shape, generator=g), start, g)


def orthogonal(g):
    """Newton-Schulz: the nearest matrices with singular values about 1, batched [n,a,b]"""
    x = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    for _ in range(5):
        p = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * p + 2.0315 * p @ p) @ x
    return x.transpose(1, 2) if tall else x


class Muon:
    def __init__(self, params, momentum=.95):
        self.momentum, self.groups, self.buffers = momentum, {}, {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)

    @torch.no_grad()
    def step(self, lr):
        for shape, group in self.groups.items():
            g = torch.stack([p.grad for p in group])
            m = self.buffers.setdefault(shape, torch.zeros_like(g)).lerp_(g, 1 - self.momentum)
            u = orthogonal(g.lerp(m, self.momentum)) * (.2 * math.sqrt(max(shape)))
            for p, d in zip(group, u):
                p.add_(d, alpha=-lr)

    def state(self):
        return self.buffers

    def load(self, s):
        self.buffers = s


def train(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    data = Latents(f"{a.work}/latents")
    model, table = nano.build().to(a.device), nano.TagTable().to(a.device)
    torch.nn.init.zeros_(model.proj_out.weight), torch.nn.init.zeros_(model.proj_out.bias)
    both = torch.nn.ModuleDict({"model": model, "table": table})
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and n.startswith("blocks.")]
    chosen = {id(p) for p in matrices}
    others = [p for p in both.parameters() if id(p) not in chosen]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=a.lr, betas=(.9, .97), weight_decay=0)
    ema = {k: v.detach().clone() for k, v in both.state_dict().items()}
    step, spent = 0, 0.0                                 # seconds that count: see clock
    # on a CPU the processor's own time, so that neither pauses nor other jobs shorten the training
    clock = time.process_time if a.device == "cpu" else time.time
    checkpoint = f"{a.work}/pretrain.pt"
    if os.path.exists(checkpoint):
        s = torch.load(checkpoint, map_location=a.device)
        both.load_state_dict(s["both"]), adam.load_state_dict(s["adam"]), muon.load(s["muon"])
        ema, step, spent, data.mean, data.std = s["ema"], s["step"], s["spent"], s["mean"], s["std"]
        print(f"goes on at step {step} after {spent:.0f} s", flush=True)
    else:
        data.mean, data.std = data.statistics()
    forward, params = FastWan(model), matrices + others

    def save():
        torch.save(dict(both=both.state_dict(), adam=adam.state_dict(), muon=muon.state(), ema=ema, step=step, spent=spent,
                        mean=data.mean, std=data.std), checkpoint + ".tmp")
        os.replace(checkpoint + ".tmp", checkpoint)
        nano.save(a.out, {k[6:]: v for k, v in ema.items() if k.startswith("model.")}, ema["table.weight"], data.mean, data.std)

    shares = torch.tensor([s for _, s in BUCKETS])
    losses, saved, refreshed, tick = [], time.time(), time.time(), clock()
    while spent < a.minutes * 60:
        shared = torch.Generator().manual_seed(1000003 * a.seed + step)              # the same on all ranks
        own = torch.Generator().manual_seed((1000003 * a.seed + step) * 64 + a.rank + 1)
        bucket = BUCKETS[int(torch.multinomial(shares, 1, generator=shared))][0]
        count = max(2 * a.ranks, TOKENS // (2 * bucket[0] * bucket[1])) // a.ranks
        z, ids = data.batch(own, bucket, count)
        # strata of a logit-normal (mean 0, deviation 1), one in eight uniform
        u = (torch.arange(count) + torch.rand(count, generator=own)) / count
        s = torch.sigmoid(torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)))
        s = torch.where(torch.rand(count, generator=own) < .125, torch.rand(count, generator=own), s)
        z, ids, s, noise = (v.to(a.device) for v in (z, ids, s, noise_like(z, s, own)))
        sv = s.view(-1, 1, 1, 1, 1)
        with torch.autocast(a.device.split(":")[0], torch.bfloat16, enabled=a.bf16):
            v = forward(nano.with_planes((1 - sv) * z + sv * noise), s * 1000, table(ids))
        loss = F.mse_loss(v.float(), noise - z)
        for p in params:
            p.grad = None
        loss.backward()
        spent, tick = spent + clock() - tick, clock()
        spent, value = ranks.average(a, params, spent, loss.item())
        left = 1 - spent / (a.minutes * 60)
        lr = a.lr * min(1, (step + 1) / 100) * min(1, max(.02, left / .4))
        adam.param_groups[0]["lr"] = lr
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        adam.step(), muon.step(lr)
        keep = min(a.ema, (1 + step) / (20 + step))
        with torch.no_grad():
            now = both.state_dict()
            torch._foreach_lerp_(list(ema.values()), [now[k] for k in ema], 1 - keep)
        step += 1
        losses.append(value)
        if a.rank == 0 and (step % 50 == 0 or step in (1, 10)):
            line = json.dumps(dict(step=step, loss=round(sum(losses) / len(losses), 5), seconds=round(spent), lr=round(lr, 6),
                                   items=len(data.items)))
            print(line, flush=True)
            with open(f"{a.work}/pretrain.jsonl", "a") as f:
                f.write(line + "\n")
            losses = []
        if time.time() - refreshed > 120:
            data.refresh()
            refreshed = time.time()
        if a.rank == 0 and time.time() - saved > a.save_every:
            save()
            saved = time.time()
    if a.rank == 0:
        save()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, help="folder of prepare.py; checkpoints go there too")
    p.add_argument("--out", required=True, help="model directory to write")
    p.add_argument("--minutes", type=float, default=60, help="total training time, all runs together; sets the schedule")
    p.add_argument("--device", default="cpu")
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--ema", type=float, default=.998)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--save-every", type=float, default=180)
    a = p.parse_args()
    ranks.start(a)
    train(a)


if __name__ == "__main__":
    main()
