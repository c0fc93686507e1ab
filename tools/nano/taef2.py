"""TAEF2 tiny autoencoder in torch: RGB in [0,1] <-> 32 latent channels at 1/8 size.

The weights are flat lists of numbered layers (`1.conv.0.weight`, ...); see models/taef2/README.md.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file


class Block(nn.Module):
    """Three 3x3 convolutions around a skip; with `pool`, a normalised 1x1 branch is added to the input first."""

    def __init__(self, width: int = 64, pool: bool = False):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1))
        self.pool = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.GroupNorm(4, 4 * width), nn.ReLU(),
            nn.Conv2d(4 * width, width, 1, bias=False)) if pool else None

    def forward(self, x):
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + x)


def conv(n_in, n_out, **kw):
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kw)


class Squash(nn.Module):
    def forward(self, z):
        return torch.tanh(z / 3) * 3


def encoder_layers():
    down = lambda: conv(64, 64, stride=2, bias=False)
    return nn.Sequential(conv(3, 64), Block(), down(), Block(), Block(), Block(), down(), Block(), Block(), Block(), down(),
                         Block(pool=True), Block(pool=True), Block(pool=True), conv(64, 32))


def decoder_layers():
    up = lambda: nn.Upsample(scale_factor=2)
    plain = lambda: conv(64, 64, bias=False)
    return nn.Sequential(Squash(), conv(32, 64), nn.ReLU(), Block(pool=True), Block(pool=True), Block(pool=True), up(), plain(),
                         Block(), Block(), Block(), up(), plain(), Block(), Block(), Block(), up(), plain(), Block(), conv(64, 3))


class TAEF2:
    """encode: [N,3,H,W] in [0,1] -> [N,32,H/8,W/8]; decode: the way back, clamped to [0,1]."""

    def __init__(self, folder, device="cpu"):
        self.encoder = self._load(encoder_layers(), f"{folder}/taef2_encoder.safetensors", device)
        self.decoder = self._load(decoder_layers(), f"{folder}/taef2_decoder.safetensors", device)
        self.device = device

    @staticmethod
    def _load(net, path, device):
        net.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        return net.to(device).eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, rgb, batch=8):
        return torch.cat([self.encoder(b.to(self.device, memory_format=torch.channels_last)).float().cpu().contiguous()
                          for b in rgb.split(batch)])

    @torch.no_grad()
    def decode(self, z, batch=8):
        return torch.cat([self.decoder(b.to(self.device, memory_format=torch.channels_last)).float().cpu().clamp(0, 1).contiguous()
                          for b in z.split(batch)])
