"""A random pixel-space tag model: Wan layout, coordinate planes, no autoencoder (tag_model/), and what diffusers makes of it
(tag_model_golden.safetensors): noise, caption rows, one network call, a 4-step run with guidance 3; captions in tag_model_prompts.json."""
import json
import os
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from common import ROOT, generator, write, write_text

torch.manual_seed(6)
torch.set_num_threads(1)
g = generator(20)
randn = lambda *s: torch.randn(*s, generator=g)
WORDS = ["<pad>", "disc", "square", "flat", "hatched", "still", "right", "static", "pan_left"]
CAPTIONS = [["disc", "flat", "right", "static"], ["square", "hatched", "pan_left"]]
SEEDS = [42, 43]

model = WanTransformer3DModel(patch_size=(1, 4, 4), num_attention_heads=2, attention_head_dim=16, in_channels=6, out_channels=3,
                              text_dim=16, freq_dim=32, ffn_dim=64, num_layers=2, cross_attn_norm=True,
                              qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=64).eval().requires_grad_(False)
for name, p in model.named_parameters():
    if p.ndim == 1:
        p.copy_((1.0 if name.endswith(("norm_q.weight", "norm_k.weight", "norm2.weight")) else 0.0) + 0.1 * randn(*p.shape))
    elif "scale_shift_table" in name:
        p.copy_(0.3 * randn(*p.shape))
    else:
        p.copy_(randn(*p.shape) / p[0].numel() ** 0.5)
table = randn(len(WORDS), 16)
table[0] = 0
model.save_pretrained(os.path.join(ROOT, "tag_model/transformer"))
os.chmod(os.path.join(ROOT, "tag_model/transformer/diffusion_pytorch_model.safetensors"), 0o644)
write("tag_model/text_encoder/model.safetensors", {"weight": table}, {"format": "pt"})
dump = lambda name, value: write_text(f"tag_model/{name}", json.dumps(value, indent=1) + "\n")
dump("text_encoder/vocab.json", {w: i for i, w in enumerate(WORDS)})
dump("text_encoder/config.json", {"model_type": "tag_table", "vocab_size": len(WORDS), "hidden_size": 16, "max_length": 8, "pad_id": 0})
dump("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0})
dump("model_index.json", {
    "_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["tags", "TagTable"], "tokenizer": [None, None],
    "vae": [None, None], "coordinate_planes": "xyt"})


def with_planes(x):
    n, _, F, H, W = x.shape
    axis = lambda k: (2 * torch.arange(k, dtype=torch.float32) + 1) / k - 1
    planes = torch.stack([axis(W).view(1, 1, W).expand(F, H, W), axis(H).view(1, H, 1).expand(F, H, W),
                          axis(F).view(F, 1, 1).expand(F, H, W)])
    return torch.cat([x, planes[None].expand(n, 3, F, H, W)], 1)


noise = torch.stack([torch.randn(3, 4, 16, 24, generator=torch.Generator().manual_seed(s)) for s in SEEDS])
ids = torch.tensor([[WORDS.index(w) for w in c] + [0] * (8 - len(c)) for c in CAPTIONS])
rows = table[ids]
t = torch.tensor([750.0, 300.0])
v = model(with_planes(noise), t, rows, return_dict=False)[0]
s = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
s.set_timesteps(4)
x = noise
for step in s.timesteps:
    both = model(with_planes(torch.cat([x, x])), step.expand(4), torch.cat([rows, torch.zeros_like(rows)]), return_dict=False)[0]
    cond, empty = both.chunk(2)
    x = s.step(empty + 3.0 * (cond - empty), step, x, return_dict=False)[0]
write("tag_model_golden.safetensors", {"noise": noise, "ids": ids, "text": rows, "t": t, "input": with_planes(noise), "v": v, "sample": x},
      {"steps": "4", "guidance": "3.0"})
write_text("tag_model_prompts.json", json.dumps([{"caption": c, "noise_seed": s} for c, s in zip(CAPTIONS, SEEDS)], indent=1) + "\n")
