"""Trains an adapter (LoRA) for a style, whose ground truth is a known picture filter, or for a camera move.

  python3 prepare.py … --recipe style --filters oil ; python3 adapter.py --model models/nano --work DIR --filter oil --out models/adapters/oil.safetensors
  python3 prepare.py … --recipe camera ; python3 adapter.py --model models/nano --work DIR --camera pan_left --out models/adapters/pan_left.safetensors

Styles: two kinds of batches.  Plain: the noised clip is the filtered one, as for any LoRA.  From the source (--from-source, 0.8 of the
time): at use the start is the noised *source*, x(s) = (1-s) source + s noise, so a start level s is drawn, the sampler's straight
way from x(s) (with the noise that frames share in the engine) to the filtered clip is followed down to a random t <= s, and the target is that way's velocity.  Captions are empty
half of the time.  In --animated of the batches the strength differs between the frames of a clip (a step or a ramp) and the ground
truth follows it frame by frame, so that an animated strength changes the frames it is set for and not their neighbours.

Camera moves: the usual LoRA objective on clips of that move, and on clips of the opposite one played backwards (frames are encoded
one by one, so that is exact).  Their captions lose the word of the camera and are empty half of the time.
Interrupt at will: the same command goes on.
"""
import argparse
import glob
import json
import os
import time
import torch
from safetensors import safe_open
from safetensors.torch import save_file
import nano
from fastwan import FastWan
from filters import FILTERS
from vocabulary import OPPOSITE, rows

# No keys and values of the self-attention: through them a frame would see the strengths of the others.  No cross-attention: at an
# empty prompt it adds a constant, whatever the adapter does to it.
TARGETS = ["attn1.to_q", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"]
CAMERA_TARGETS = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"]
CAMERA_SIZES = [((8, 8), .6), ((12, 8), .2), ((12, 12), .2)]
SIZES = [((12, 8), .15), ((12, 12), .25), ((18, 10), .25), ((24, 14), .2), ((32, 18), .15)]


def pairs(work, name):
    """[(source, filtered, caption rows)] of all shards that both exist"""
    out = []
    for path in sorted(glob.glob(f"{work}/latents-{name}/*.safetensors")):
        with safe_open(path, "pt") as f, safe_open(path.replace(f"latents-{name}", "latents"), "pt") as s:
            captions = json.loads(f.metadata()["captions"])
            out += [(s.get_tensor(k), f.get_tensor(k), rows(captions[k])) for k in f.keys()]
    return out


def moves(work, move):
    """[(clip, clip, caption rows)] of a camera move: its own clips and the opposite move's backwards"""
    out = []
    for path in sorted(glob.glob(f"{work}/latents-camera/*.safetensors")):
        with safe_open(path, "pt") as f:
            captions = json.loads(f.metadata()["captions"])
            for k in f.keys():
                if move in captions[k] or OPPOSITE[move] in captions[k]:
                    z = f.get_tensor(k)
                    z = z if move in captions[k] else z.flip(0)
                    out.append((z, z, rows([w for w in captions[k] if w not in OPPOSITE])))
    return out


def curves(n, frames, g):
    """[n, frames]: steps between 0 and 1 at any frame, up or down, and ramps"""
    at = torch.randint(1, frames, (n, 1), generator=g)
    k = torch.arange(frames).view(1, -1)
    step = (k >= at).float()
    ramp = ((k - at + 2).float() / 4).clamp(0, 1)
    curve = torch.where(torch.rand(n, 1, generator=g) < .7, step, ramp)
    return torch.where(torch.rand(n, 1, generator=g) < .5, curve, 1 - curve)


def add_adapter(model, rank, targets=TARGETS):
    from peft import LoraConfig
    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), adapter_name="style")
    # peft attaches in an order that changes between runs
    return [p for _, p in sorted((n, p) for n, p in model.named_parameters() if ".lora_" in n)]


def export(model, path, metadata):
    tensors = {}
    for k, v in model.state_dict().items():
        if ".lora_A.style." in k or ".lora_B.style." in k:
            tensors["transformer." + k.replace(".style.", ".")] = v.detach().bfloat16().contiguous().cpu()
    save_file(tensors, path + ".tmp", {"format": "pt", **{k: str(v) for k, v in metadata.items()}})
    os.replace(path + ".tmp", path)
    os.chmod(path, 0o644)


def start_from(model, path):
    """Copies an earlier adapter of at most this rank into the new one, where both adapt the same layer; further ranks start at 0."""
    own = dict(model.named_parameters())
    with safe_open(path, "pt") as f, torch.no_grad():
        for k in f.keys():
            name = k.removeprefix("transformer.").replace(".lora_A.", ".lora_A.style.").replace(".lora_B.", ".lora_B.style.")
            if name in own:
                v = f.get_tensor(k).float()
                own[name][:v.shape[0], :v.shape[1]] = v


def load_adapter(model, path):
    """Attaches an exported file (alpha = rank) under the name `style`."""
    with safe_open(path, "pt") as f:
        tensors = {k: f.get_tensor(k).float() for k in f.keys()}
    modules = sorted({k.removeprefix("transformer.").split(".lora_")[0] for k in tensors})
    add_adapter(model, next(v for k, v in tensors.items() if ".lora_A." in k).shape[0], modules)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for k, v in tensors.items():
            own[k.removeprefix("transformer.").replace(".lora_A.", ".lora_A.style.").replace(".lora_B.", ".lora_B.style.")].copy_(v)
    model.requires_grad_(False)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--filter", choices=sorted(FILTERS))
    p.add_argument("--camera", choices=sorted(OPPOSITE))
    p.add_argument("--out", required=True)
    p.add_argument("--init", help="an earlier adapter to start from")
    p.add_argument("--rank", type=int, default=12)
    p.add_argument("--lr", type=float, default=5e-3)
    p.add_argument("--minutes", type=float, default=15, help="total training time, all runs together")
    p.add_argument("--tokens", type=int, default=2048)
    p.add_argument("--from-source", type=float, default=.8)
    p.add_argument("--animated", type=float, default=.5, help="share of batches whose strength differs between frames")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    model, table, mean, std = nano.load(a.model)
    subject, sizes = a.filter or a.camera, CAMERA_SIZES if a.camera else SIZES
    params = add_adapter(model, a.rank, CAMERA_TARGETS if a.camera else TARGETS)
    model, table = model.to(a.device), table.to(a.device)
    for q in params:
        q.requires_grad_(True)
    adam = torch.optim.AdamW(params, lr=a.lr, betas=(.9, .98), weight_decay=0)
    if a.init:
        start_from(model, a.init)
    checkpoint, step, spent = f"{a.work}/adapter-{subject}.pt", 0, 0.0
    if os.path.exists(checkpoint):
        s = torch.load(checkpoint, map_location=a.device)
        with torch.no_grad():
            for q, v in zip(params, s["params"]):
                q.copy_(v)
        adam.load_state_dict(s["adam"])
        step, spent = s["step"], s["spent"]
        print(f"goes on at step {step}", flush=True)
    data = pairs(a.work, a.filter) if a.filter else moves(a.work, a.camera)
    fitting = {b: [i for i, (z, _, _) in enumerate(data) if z.shape[3] >= b[0] and z.shape[2] >= b[1]] for b, _ in sizes}
    shares = torch.tensor([s for _, s in sizes])
    scale = lambda z: (z - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
    clock = time.process_time if a.device == "cpu" else time.time    # neither pauses nor other jobs shorten the training
    forward, losses, tick, saved = FastWan(model), [], clock(), time.time()

    def save():
        torch.save(dict(params=[q.detach() for q in params], adam=adam.state_dict(), step=step, spent=spent), checkpoint + ".tmp")
        os.replace(checkpoint + ".tmp", checkpoint)
        export(model, a.out, dict(base="nano", teaches=subject, rank=a.rank, alpha=a.rank, steps=step))

    while spent < a.minutes * 60:
        g = torch.Generator().manual_seed(7_000_003 * a.seed + step)
        w, h = sizes[int(torch.multinomial(shares, 1, generator=g))][0]
        n = max(1, a.tokens // (2 * w * h))
        src, dst, ids = [], [], []
        for _ in range(n):
            z, f, words = data[fitting[w, h][int(torch.randint(len(fitting[w, h]), (), generator=g))]]
            # even places only: dots and tiles keep their place in the model's patches
            y = 2 * int(torch.randint((z.shape[2] - h) // 2 + 1, (), generator=g))
            x = 2 * int(torch.randint((z.shape[3] - w) // 2 + 1, (), generator=g))
            cut = lambda q: q[:, :, y:y + h, x:x + w].float().permute(1, 0, 2, 3).expand(32, 8, h, w)
            src.append(cut(z)), dst.append(cut(f)), ids.append(words)
        src, dst, ids = scale(torch.stack(src)), scale(torch.stack(dst)), torch.tensor(ids)
        ids = ids * (torch.rand(n, 1, generator=g) > .5)
        noise = torch.randn(src.shape, generator=g)
        forward.strength = {}
        if a.filter and torch.rand((), generator=g) < a.animated:
            strengths = curves(n, src.shape[2], g)
            forward.strength = {"style": strengths.to(a.device)}
            dst = src + (dst - src) * strengths.view(n, 1, -1, 1, 1)
        u = ((torch.arange(n) + torch.rand(n, generator=g)) / n).view(-1, 1, 1, 1, 1)
        if a.filter and torch.rand((), generator=g) < a.from_source:
            start = .3 + .5 * torch.rand(u.shape, generator=g)          # where strength 0.3 ... 0.8 starts
            share = .2 + .8 * u                                        # how much of the way is still ahead
            noise = nano.share_noise(noise, start, g)
            first = (1 - start) * src + start * noise
            t, x, target = start * share, share * first + (1 - share) * dst, (first - dst) / start
            weight = (2 * start) ** 2                                  # an error of v moves the result by start times that
        else:
            t = torch.sigmoid(torch.special.ndtri(u.clamp(1e-3, 1 - 1e-3)) + (.6 if a.camera else 0))    # motion is set early on
            x, target, weight = (1 - t) * dst + t * noise, noise - dst, torch.ones(1)
        with torch.no_grad():
            words = table[ids.to(a.device)]
        v = forward(nano.with_planes(x.to(a.device)), t.flatten().to(a.device) * 1000, words)
        loss = (weight.to(a.device) * (v - target.to(a.device)).square()).mean()
        adam.zero_grad()
        loss.backward()
        left = 1 - spent / (a.minutes * 60)
        adam.param_groups[0]["lr"] = a.lr * min(1, (step + 1) / 30) * min(1, max(.02, left / .4))
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        step, spent, tick = step + 1, spent + clock() - tick, clock()
        losses.append(loss.item())
        if step % 25 == 0:
            print(json.dumps(dict(step=step, loss=round(sum(losses) / len(losses), 4), seconds=round(spent), pairs=len(data))), flush=True)
            losses = []
        if time.time() - saved > 120:
            save()
            saved = time.time()
    save()


if __name__ == "__main__":
    main()
