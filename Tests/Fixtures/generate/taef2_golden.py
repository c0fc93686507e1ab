"""taef2/taef2_golden.safetensors: `rgb_u8` [1,3,96,160], `latent` [1,32,12,20] and `decoded` (unclamped) of the TAEF2 weights in
models/nano/vae, and the picture it starts from.

  python3 taef2_golden.py PICTURE.png      (160x96; the stored one is a part of scikit-learn's flower.jpg, CC-BY-2.0, vultilion)

Without a picture the stored golden is recomputed from its own `rgb_u8` and compared."""
import os
import sys
import numpy as np
import torch
from safetensors.torch import load_file
from common import ROOT, write

sys.path.insert(0, os.path.join(ROOT, "../../tools/nano"))
from taef2 import TAEF2  # noqa: E402

coder = TAEF2(os.path.join(ROOT, "../../models/nano/vae"))
golden = os.path.join(ROOT, "taef2/taef2_golden.safetensors")
if len(sys.argv) > 1:
    from PIL import Image
    rgb = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
    rgb = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None]
else:
    rgb = load_file(golden)["rgb_u8"]
latent = coder.encode(rgb.float() / 255)
with torch.no_grad():
    decoded = coder.decoder(latent)
if len(sys.argv) > 1:
    write("taef2/taef2_golden.safetensors", {"rgb_u8": rgb, "latent": latent, "decoded": decoded})
else:
    want = load_file(golden)
    for name, got in (("latent", latent), ("decoded", decoded)):
        error = ((got - want[name]).abs().max() / want[name].abs().max()).item()
        print(f"{name}: relative difference {error:.1e}")
        assert error < 1e-4, name
