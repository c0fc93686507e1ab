"""torch.save files of every form that `videolora import` reads, each with what it must become; and two that it refuses."""
import collections
import os
import pickle
import zipfile
import torch
from common import ROOT, generator, write

os.makedirs(f"{ROOT}/pickles", exist_ok=True)


class Code:
    """A pickle of this calls os.system when Python loads it."""

    def __reduce__(self):
        return os.system, ("echo pickle was run",)


def save(name, value, **options):
    path = f"{ROOT}/pickles/{name}"
    torch.save(value, path, **options)
    os.chmod(path, 0o644)
    print(f"pickles/{name}: {os.path.getsize(path)} bytes")


def state():
    g = generator()
    base = torch.randn(6, 10, generator=g)
    return collections.OrderedDict([
        ("f32", base), ("shared", base), ("transposed", base.t()), ("columns", base[:, 2:5]), ("steps", base[::2, ::3]),
        ("expanded", base[:1].expand(4, 10)), ("row", base[3]), ("permuted", torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)),
        ("scalar", torch.tensor(2.5)), ("empty", torch.zeros(0, 3)), ("parameter", torch.nn.Parameter(torch.randn(3, 2, generator=g))),
        ("f16", base[:2].half()), ("bf16", base[:2].bfloat16()), ("f64", base[:2].double()), ("i64", torch.arange(-3, 3)),
        ("i32", torch.arange(5, dtype=torch.int32)), ("i16", torch.arange(-2, 3, dtype=torch.int16)),
        ("i8", torch.arange(-2, 3, dtype=torch.int8)), ("u8", torch.arange(5, dtype=torch.uint8)),
        ("bool", torch.tensor([True, False, True])), ("ünïcode", torch.ones(2))])


everything = state()
save("zip.pt", everything)
save("legacy.pt", everything, _use_new_zipfile_serialization=False)
save("protocol4.pt", everything, pickle_protocol=4)
write("pickles/everything.safetensors", everything)

layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
with torch.no_grad():
    for p in layer.parameters():
        p.copy_(torch.randn(p.shape, generator=generator(1)))
plain = layer.state_dict()  # an OrderedDict with _metadata
save("wrapped.ckpt", {
    "state_dict": {f"module.{k}": v for k, v in plain.items()}, "epoch": 7, "rate": 0.5, "note": "α note", "done": True,
    "optimizer": {"step": torch.ones(2), "names": ["a", "b"]}, "nothing": None})
save("model.pth", {"model": plain, "step": 3})
write("pickles/wrapped.safetensors", plain)
nested = {"encoder": {"a": torch.ones(2), "b": {"c": torch.zeros(1)}}, "decoder": {"list": [torch.ones(1), torch.zeros(2)]}}
save("nested.bin", nested)
write("pickles/nested.safetensors", {
    "encoder.a": torch.ones(2), "encoder.b.c": torch.zeros(1), "decoder.list.0": torch.ones(1), "decoder.list.1": torch.zeros(2)})

save("code.pt", {"weight": torch.ones(2), "more": Code()})
with zipfile.ZipFile(f"{ROOT}/pickles/deflated.pt", "w", zipfile.ZIP_DEFLATED) as f:
    f.writestr("x/data.pkl", pickle.dumps({}, 2) + bytes(5000))
