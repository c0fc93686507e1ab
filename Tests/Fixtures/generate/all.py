"""Runs every generator and writes manifest.json: versions, seed, size and SHA-256 of every fixture."""
import glob
import hashlib
import json
import os
import subprocess
import sys
import diffusers
import numpy
import peft
import safetensors
import torch
from common import ROOT, SEED, write_text

here = os.path.dirname(os.path.abspath(__file__))
if "--manifest-only" not in sys.argv:
    for script in sorted(glob.glob(f"{here}/*.py")):
        if os.path.basename(script) not in ("all.py", "common.py"):
            subprocess.run([sys.executable, script], check=True, cwd=here)
files = {}
for path in sorted(glob.glob(f"{ROOT}/**/*", recursive=True)):
    name = os.path.relpath(path, ROOT)
    if os.path.isfile(path) and not name.startswith("generate/") and name not in ("manifest.json", "README.md"):
        with open(path, "rb") as f:
            data = f.read()
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
write_text("manifest.json", json.dumps({
    "seed": SEED, "versions": {"python": sys.version.split()[0], **{m.__name__: m.__version__ for m in (torch, diffusers, peft, safetensors, numpy)}},
    "files": files}, indent=1) + "\n")
