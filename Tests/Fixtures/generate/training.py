"""LoRAs on random models trained with torch and peft, inputs included: training_golden.safetensors (the tag model),
training_wan_golden.safetensors (wan_tiny) and, with JUDGE=DIR, training_judge_golden.safetensors (the base of the judge kit).

`attention.*`: rank 4, alpha 8 on q, k, v, out of both attentions, A as peft draws it, B zero: `clips` [2,3,2,8,16]
(latents [2,16,2,6,8] for Wan), `text`, `noise` [10,2,...], `sigmas` [10,2], `A.<module>`, and after AdamW steps (lr 0.01, weight decay 0.01, gradient norm clipped to 1) `losses` [10],
`norms` [10] (of the gradient before clipping), `trained.A.<module>`, `trained.B.<module>`.
`all.*`: rank 2, alpha 2 on every linear layer, embedders of time and text included, A and B random: `gradient.A.<module>`, `gradient.B.<module>`
and `loss` of one batch (the first noise), with the same names.
The frequencies of the time embedding are rounded to the nearest float32. torch's own exp misses it by a bit in one of the judge's
32, which at a timestep of 400 moves single gradients by 1e-4.
With MODEL and FILE as arguments the same of another model, which `VIDEOLORA_TRAINING_MODEL=MODEL VIDEOLORA_TRAINING_GOLDEN=FILE swift
test --filter TorchParity` reads."""
import math
import os
import subprocess
import sys
import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig
from common import ROOT, generator, write
from safetensors.torch import load_file

if len(sys.argv) == 1:
    jobs = [(os.path.join(ROOT, "tag_model"), "training_golden.safetensors"), (os.path.join(ROOT, "wan_tiny"), "training_wan_golden.safetensors")]
    if "JUDGE" in os.environ:
        jobs.append((os.path.join(os.environ["JUDGE"], "base"), "training_judge_golden.safetensors"))
    for job in jobs:
        subprocess.run([sys.executable, __file__, *job], check=True)
    sys.exit()
torch.manual_seed(7)
torch.set_num_threads(1)
g = generator(30)
randn = lambda *s: torch.randn(*s, generator=g)
MODEL, FILE = sys.argv[1:]
config = WanTransformer3DModel.load_config(os.path.join(MODEL, "transformer"))
LATENT = config["in_channels"] == config["out_channels"]
STEPS = 10
if LATENT:
    clips = randn(2, config["in_channels"], 2, 6, 8)
    text = randn(2, 12, config["text_dim"])
    text[:, 9:] = 0
else:
    clips = torch.rand(2, 3, 2, 8, 16, generator=g) * 2 - 1
    ids = torch.tensor([[1, 3, 6, 7, 0, 0, 0, 0], [2, 4, 8, 0, 0, 0, 0, 0]])
    text = load_file(os.path.join(MODEL, "text_encoder/model.safetensors"))["weight"][ids]
noise, sigmas = randn(STEPS, *clips.shape), torch.rand(STEPS, 2, generator=g)


def planes(x):
    if LATENT:
        return x
    n, _, f, h, w = x.shape
    axis = lambda k: (2 * torch.arange(k, dtype=torch.float32) + 1) / k - 1
    p = torch.stack([axis(w).view(1, 1, w).expand(f, h, w), axis(h).view(1, h, 1).expand(f, h, w), axis(f).view(f, 1, 1).expand(f, h, w)])
    return torch.cat([x, p[None].expand(n, 3, f, h, w)], 1)


def sinusoids(m):
    half = m.config.freq_dim // 2
    exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32) / half
    frequencies = exponents.double().exp().float()

    def forward(timesteps):
        angles = timesteps[:, None].float() * frequencies
        return torch.cat([angles.cos(), angles.sin()], -1)
    return forward


def model(rank, alpha, targets):
    m = WanTransformer3DModel.from_pretrained(os.path.join(MODEL, "transformer")).eval().requires_grad_(False)
    m.condition_embedder.timesteps_proj.forward = sinusoids(m)
    m.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights=True))
    ps = {n.replace(".lora_A.default.weight", "|A").replace(".lora_B.default.weight", "|B"): p
          for n, p in m.named_parameters() if ".lora_" in n}
    for p in ps.values():
        p.requires_grad_(True)
    return m, {"{1}.{0}".format(*k.split("|")): p for k, p in ps.items()}


def loss_of(m, step):
    s = sigmas[step].view(-1, 1, 1, 1, 1)
    v = m(planes((1 - s) * clips + s * noise[step]), sigmas[step] * 1000, text, return_dict=False)[0]
    return (v - (noise[step] - clips)).pow(2).mean()


out = {"clips": clips, "text": text, "noise": noise, "sigmas": sigmas}
m, ps = model(4, 8, ["to_q", "to_k", "to_v", "to_out.0"])
out |= {f"attention.{n}": p.clone() for n, p in ps.items() if n.startswith("A.")}
opt = torch.optim.AdamW(ps.values(), lr=1e-2, weight_decay=0.01)
losses, norms = [], []
for step in range(STEPS):
    loss = loss_of(m, step)
    opt.zero_grad()
    loss.backward()
    norms.append(torch.nn.utils.clip_grad_norm_(ps.values(), 1.0))
    opt.step()
    losses.append(loss.detach())
out |= {"attention.losses": torch.stack(losses), "attention.norms": torch.stack(norms)}
out |= {f"attention.trained.{n}": p for n, p in ps.items()}

m, ps = model(2, 2, r".*(to_q|to_k|to_v|to_out\.0|net\.0\.proj|net\.2|linear_1|linear_2|time_proj|^proj_out)")
for n, p in ps.items():
    p.data.copy_(randn(*p.shape) * 0.3)
loss = loss_of(m, 0)
loss.backward()
out["all.loss"] = loss
out |= {f"all.{n}": p for n, p in ps.items()}
out |= {f"all.gradient.{n}": p.grad for n, p in ps.items()}
write(FILE, out, {"rank": "4 and 2"})
print(len(ps), "layers", losses[0].item(), losses[-1].item())
