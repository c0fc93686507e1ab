"""A small random AutoencoderKLWan with Wan 2.1's levels in diffusers' layout (weights rounded to bf16), with expected outputs of
diffusers: autoencoder_kl_wan/vae/, autoencoder_kl_wan_golden.safetensors (`encode.in.video`, `encode.out.mean`, `encode.out.logvar`,
`decode.in.latents`, `decode.out.frames`, and `tiled.in.latents`, `tiled.out.frames`, `tiled.out.mean` (the frames encoded again)
with tiles of 24 pixels at a stride of 16, all [1,C,F,H,W]) and autoencoder_kl_wan_names.json: each tensor's name in Wan's own
repository, checked against diffusers' conversion of such files."""
import json
import os
import re
import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import save_file
from common import ROOT, generator, write, write_text

torch.set_num_threads(1)
g = generator(20)
randn = lambda *s: torch.randn(*s, generator=g)
RES_BLOCKS = 2

vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=RES_BLOCKS,
                       temperal_downsample=[False, True, True]).eval().requires_grad_(False)
for name, p in vae.named_parameters():
    if name.endswith("gamma"):
        p.copy_(1 + 0.1 * randn(*p.shape))
    elif name.endswith("bias"):
        p.copy_(0.05 * randn(*p.shape))
    else:
        p.copy_(randn(*p.shape) * (0.45 if name == "decoder.conv_out.weight" else 1) / p[0].numel() ** 0.5)
    p.copy_(p.bfloat16().float())

directory = os.path.join(ROOT, "autoencoder_kl_wan/vae")
vae.save_config(directory)
path = os.path.join(directory, "diffusion_pytorch_model.safetensors")
save_file({k: v.bfloat16().contiguous() for k, v in vae.state_dict().items()}, path, {"format": "pt"})
os.chmod(path, 0o644)
os.chmod(os.path.join(directory, "config.json"), 0o644)


def original(name):
    name = re.sub(r"^quant_conv", "conv1", re.sub(r"^post_quant_conv", "conv2", name))
    side, _, rest = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name
    block = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6", "conv_shortcut": "shortcut"}
    inner = lambda path: ".".join([block.get(path.split(".")[0], path.split(".")[0]), *path.split(".")[1:]])
    for start, end in (("conv_in.", "conv1."), ("norm_out.", "head.0."), ("conv_out.", "head.2.")):
        if rest.startswith(start):
            return f"{side}.{end}{rest[len(start):]}"
    if m := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", rest):
        place = 1 if m[1] == "attentions" else 2 * int(m[2])
        return f"{side}.middle.{place}.{inner(m[3])}"
    if m := re.match(r"down_blocks\.(\d+)\.(.*)", rest):
        return f"{side}.downsamples.{m[1]}.{inner(m[2])}"
    m = re.match(r"up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.*)", rest)
    place = (RES_BLOCKS + 2) * int(m[1]) + (int(m[3]) if m[2] == "resnets" else RES_BLOCKS + 1)
    return f"{side}.upsamples.{place}.{inner(m[4])}"


state = vae.state_dict()
names = {k: original(k) for k in state}
back = convert_wan_vae_to_diffusers({names[k]: v for k, v in state.items()})
assert back.keys() == state.keys() and all(back[k] is state[k] for k in state)
write_text("autoencoder_kl_wan_names.json", json.dumps(names, indent=0) + "\n")

ys, xs = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 24), indexing="ij")
video = torch.stack([torch.stack([torch.sin(3 * xs + 0.4 * t), torch.cos(4 * ys - 0.3 * t), torch.sin(5 * xs * ys + 0.5 * t)])
                     for t in range(13)], 1)[None].mul(0.8).add(0.1 * randn(1, 3, 13, 16, 24)).clamp(-1, 1)
latents = randn(1, 16, 4, 2, 3)
posterior = vae.encode(video).latent_dist
frames = vae.decode(latents).sample
assert (frames.abs() == 1).float().mean() < 0.1
tiled = randn(1, 16, 2, 4, 5)
vae.enable_tiling(24, 24, 16, 16)
tiled_frames = vae.decode(tiled).sample
tiled_mean = vae.encode(tiled_frames).latent_dist.mean
write("autoencoder_kl_wan_golden.safetensors", {
    "tiled.in.latents": tiled, "tiled.out.frames": tiled_frames, "tiled.out.mean": tiled_mean,
    "encode.in.video": video, "encode.out.mean": posterior.mean, "encode.out.logvar": posterior.logvar,
    "decode.in.latents": latents, "decode.out.frames": frames})
