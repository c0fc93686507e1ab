"""The nano model: build, save and load in diffusers' layout, captions, latents, sampling (text and video to video)."""
import json
import os
import sys
import torch
from safetensors.torch import load_file, save_file
sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from planes import with_planes
from vocabulary import CAPTION_LENGTH, ROW, TEXT_WIDTH, WORDS, rows

CONFIG = dict(patch_size=(1, 2, 2), num_attention_heads=6, attention_head_dim=32, in_channels=35, out_channels=32,
              text_dim=TEXT_WIDTH, freq_dim=128, ffn_dim=512, num_layers=5, cross_attn_norm=True,
              qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=128)
SHIFT = 1.0
DEFAULTS = dict(steps=8, guidance_scale=1.0, clip_length=8, overlap=2, width=256, height=144)


def build(**changes):
    from diffusers import WanTransformer3DModel
    return WanTransformer3DModel(**{**CONFIG, **changes})


class TagTable(torch.nn.Module):
    """Rows of words: ids [B,8] -> [B,8,64]; row 0 stays zero."""

    def __init__(self, words=len(WORDS)):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(words, TEXT_WIDTH))

    def forward(self, ids):
        return self.weight[ids] * (ids != 0).unsqueeze(-1).to(self.weight.dtype)


def _dump(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def save(folder, weights, table, mean, std):
    """Writes the model directory (all but the autoencoder's weights and the model card); bf16 transformer, f32 table."""
    _dump(f"{folder}/model_index.json", {
        "_class_name": "WanPipeline", "_diffusers_version": "0.35.0",
        "transformer": ["diffusers", "WanTransformer3DModel"], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["tags", "TagTable"], "tokenizer": [None, None], "vae": ["diffusers", "AutoencoderTiny"],
        "coordinate_planes": "xyt", "videolora": DEFAULTS})
    _dump(f"{folder}/transformer/config.json", {"_class_name": "WanTransformer3DModel", **CONFIG, "added_kv_proj_dim": None,
                                                "image_dim": None, "pos_embed_seq_len": None})
    _dump(f"{folder}/scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler",
                                                        "num_train_timesteps": 1000, "shift": SHIFT})
    _dump(f"{folder}/text_encoder/config.json", {"model_type": "tag_table", "vocab_size": len(WORDS), "hidden_size": TEXT_WIDTH,
                                                 "max_length": CAPTION_LENGTH, "pad_id": 0})
    _dump(f"{folder}/text_encoder/vocab.json", ROW)
    _dump(f"{folder}/vae/config.json", {"_class_name": "AutoencoderTiny", "layout": "taef2", "latent_channels": 32,
                                        "latents_mean": [round(float(v), 6) for v in mean],
                                        "latents_std": [round(float(v), 6) for v in std]})
    own = {k: v.detach().bfloat16().contiguous().cpu() for k, v in weights.items()}
    _write(own, f"{folder}/transformer/diffusion_pytorch_model.safetensors")
    t = table.detach().float().clone().cpu()
    t[0] = 0
    _write({"weight": t.contiguous()}, f"{folder}/text_encoder/model.safetensors")


def _write(tensors, path):
    save_file(tensors, path + ".tmp", {"format": "pt"})
    os.replace(path + ".tmp", path)
    os.chmod(path, 0o644)


def load(folder):
    """-> transformer (f32, frozen), table [words,64], latent mean and std [32]"""
    from diffusers import WanTransformer3DModel
    model = WanTransformer3DModel.from_pretrained(f"{folder}/transformer", torch_dtype=torch.float32).eval()
    model.requires_grad_(False)
    table = load_file(f"{folder}/text_encoder/model.safetensors")["weight"].float()
    with open(f"{folder}/vae/config.json") as f:
        c = json.load(f)
    return model, table, torch.tensor(c["latents_mean"]), torch.tensor(c["latents_std"])


def encode_captions(table, captions):
    return table[torch.tensor([rows(c) for c in captions])]


def share_noise(noise, start, g):
    """Unit noise [B,C,F,H,W] of each frame's own -> as the engine's StreamNoise has it in runs that start at levels `start` (a tensor that
    broadcasts): below 1 mostly one noise for all frames, at 1 unchanged."""
    common = .95 * (1 - start ** 4)
    return (1 - common).sqrt() * noise + common.sqrt() * torch.randn(noise[:, :, :1].shape, generator=g)


def levels(steps, strength=1.0):
    """Noise levels of a run, the last one 0.  Strength 1: diffusers' FlowMatchEulerDiscreteScheduler.  Below 1 (video to video):
    max(1, round(steps * strength)) equal steps from the level that the share `strength` shifts to."""
    if strength < 1:
        n = max(1, round(steps * strength))
        u = strength * (1 - torch.arange(n + 1, dtype=torch.float64) / n)
        return (SHIFT * u / (1 + (SHIFT - 1) * u)).float()
    from diffusers import FlowMatchEulerDiscreteScheduler
    s = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT)
    s.set_timesteps(steps)
    return s.sigmas


@torch.no_grad()
def sample(forward, noise, words, steps=8, guidance=1.0, strength=1.0, source=None, negative=None):
    """Euler steps from unit noise [B,32,F,H,W], mixed with normalised `source` latents where strength is below 1.
    words [B,8,64]; the unconditional caption is `negative` or empty."""
    sigmas = levels(steps, strength)
    x = noise if strength >= 1 else (1 - sigmas[0]) * source + sigmas[0] * noise
    empty = torch.zeros_like(words) if negative is None else negative.expand_as(words)
    for now, then in zip(sigmas, sigmas[1:]):
        t = (now * 1000).expand(x.shape[0])
        v = forward(with_planes(x), t, words)
        if guidance != 1:
            u = forward(with_planes(x), t, empty)
            v = u + guidance * (v - u)
        x = x + (then - now) * v
    return x
