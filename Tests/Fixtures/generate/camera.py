"""camera.safetensors: small clips and what the judge kit's camera.py measures on them.  JUDGE names the kit's folder."""
import os
import sys
import torch
from common import SEED, write

sys.path.insert(0, os.environ["JUDGE"])
import camera as C  # noqa: E402
import scorers as S  # noqa: E402
import world as W  # noqa: E402


def mixed(n, seed, **size):
    g = torch.Generator().manual_seed(seed)
    full = torch.tensor([W.MAX_SHIFT, W.MAX_SHIFT, W.MAX_LOGZOOM, W.MAX_ROLL])
    vec = (torch.rand(n, 4, generator=g) * 2 - 1) * full * (torch.rand(n, 4, generator=g) < 0.5)
    return W.clips(n, seed + 1, cam_vec=vec, **size)


def measured(prefix, frames, labels, tensors, noise=0.0):
    if noise:
        g = torch.Generator().manual_seed(SEED)
        frames = (frames + noise * torch.randn(frames.shape, generator=g)).clamp(-1, 1)
    pixels = W.to_uint8(frames)
    x = pixels.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    r = C.camera(x)
    h = x.shape[-2]
    tensors[prefix + ".frames"] = pixels
    tensors[prefix + ".truth"] = labels["cam"]
    for k in ("cam", "ncc", "sprite", "object", "mass"):
        tensors[f"{prefix}.{k}"] = torch.nan_to_num(r[k], nan=-1e6)
    tensors[prefix + ".amplitudes"] = C.amplitudes(r["cam"], h)
    tensors[prefix + ".object_amplitude"] = S.path_amplitude(r["object"], h)
    tensors[prefix + ".class"] = C.classify(r["cam"], h)


tensors = {}
measured("mixed", *mixed(12, SEED), tensors)
measured("named", *W.clips(9, SEED + 50, cameras=None), tensors)
measured("noisy", *mixed(3, SEED + 100), tensors, noise=0.1)
measured("wide", *mixed(2, SEED + 200, F=6, H=48, W=64), tensors)
write("camera.safetensors", tensors)
