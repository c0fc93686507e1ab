"""Some layers of real SD1.5 LoRA files in five naming schemes: sd15_loras/.

    python3 sd15_loras.py ASSETS    (a folder with lora/sd15_*.safetensors and goldens/lora_delta_golden.safetensors)

Tensors, names and metadata are those of the files, only fewer layers. `deltas.safetensors` is the top-left 8x16 of up @ down of three
layers, from the f32 file; the others hold the same numbers rounded to f16."""
import os
import sys
from safetensors import safe_open
from safetensors.torch import load_file
from common import write

LAYERS = ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
          "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_v", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0")
NAMINGS = {"kohya": lambda n: "lora_unet_" + n.replace(".", "_") + ".", "diffusers-new": lambda n: f"unet.{n}.lora.",
           "diffusers-old": lambda n: n.replace(".to_", ".processor.to_").replace("to_out.0", "to_out") + "_lora.",
           "peft": lambda n: f"base_model.model.{n}.lora_"}


def reduced(path, keep):
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys() if keep(k)}, f.metadata()


if len(sys.argv) > 1:
    assets = sys.argv[1]
    for naming, start in NAMINGS.items():
        starts = tuple(start(n) for n in LAYERS)
        tensors, meta = reduced(f"{assets}/lora/sd15_weapons_r4.{naming}.safetensors", lambda k: k.startswith(starts))
        assert len(tensors) == len(LAYERS) * (3 if naming == "kohya" else 2), naming
        write(f"sd15_loras/weapons.{naming}.safetensors", tensors, meta)
    numbers = [f"unet:{n}:" for n in (0, 4, 5, 6, 8, 143)] + [f"text_encoder:{n}:" for n in (0, 2, 47)]
    tensors, meta = reduced(f"{assets}/lora/sd15_analog_svd_r4.cloneofsimo.safetensors", lambda k: k.startswith(tuple(numbers)))
    write("sd15_loras/analog.cloneofsimo.safetensors", tensors, meta)
    write("sd15_loras/deltas.safetensors", load_file(f"{assets}/goldens/lora_delta_golden.safetensors"))
else:
    print("sd15_loras: left as it is (give the folder of the assets to make it again)")
