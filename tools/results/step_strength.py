"""Does an animated adapter strength act per frame?  A step from 0 to 1 in the middle of a window against the same seed at 0.

  python3 step_strength.py --videolora PATH --adapter builtin:NAME CLIP.y4m …

Takes windows of 8 frames from the clips, 16 in all, and prints the mean change after the step over the mean change before it.
"""
import argparse
import json
import os
import subprocess
import tempfile
import numpy as np
from seam import read_y4m


def cut(path, first, count, out):
    data = open(path, "rb").read()
    end = data.index(b"\n") + 1
    head = data[:end].decode().split()
    w, h = (int(next(t[1:] for t in head if t[0] == c)) for c in "WH")
    size = 6 + w * h + 2 * ((w + 1) // 2) * ((h + 1) // 2)
    open(out, "wb").write(data[:end] + data[end + first * size:end + (first + count) * size])


def main():
    a = argparse.ArgumentParser()
    a.add_argument("clips", nargs="+"), a.add_argument("--videolora", required=True), a.add_argument("--adapter", required=True)
    a.add_argument("--windows", type=int, default=16), a.add_argument("--strength", default="0.5"), a.add_argument("--model", default="builtin:nano")
    o = a.parse_args()
    per = -(-o.windows // len(o.clips))
    rows = []
    with tempfile.TemporaryDirectory() as d:
        for clip in o.clips:
            total = len(read_y4m(clip))
            for k in range(per):
                if len(rows) == o.windows:
                    break
                cut(clip, k * max(1, (total - 8) // per), 8, f"{d}/in.y4m")
                out = []
                for curve in ("0:0,7:0", "3:0,4:1"):
                    subprocess.run([o.videolora, "transform", "--model", o.model, "--input", f"{d}/in.y4m", "--output", f"{d}/out.y4m", "--strength", o.strength,
                                    "--seed", str(k), "--lora-curve", f"{o.adapter}={curve}"], check=True, capture_output=True)
                    out.append(read_y4m(f"{d}/out.y4m"))
                change = np.abs(out[1] - out[0]).mean(1)
                rows.append((change[:4].mean(), change[4:].mean()))
    before, after = np.array(rows).mean(0)
    print(json.dumps(dict(windows=len(rows), before=round(float(before), 3), after=round(float(after), 3), ratio=round(float(after / before), 2))))


if __name__ == "__main__":
    main()
