"""Frame differences across window borders against those inside windows, for a clip made by `videolora transform`.

  videolora transform --input clip.y4m --output out.y4m … ; python3 seam.py out.y4m --clip-length 8 --overlap 2

A window starts every clip-length - overlap frames; its first `overlap` frames are faded in.  A transition counts as a border
when one of its two frames is faded or it leads from one window to the next.
"""
import argparse
import json
import numpy as np


def read_y4m(path):
    """luma and chroma planes of a y4m file as float [F, N]"""
    data = open(path, "rb").read()
    end = data.index(b"\n")
    head = data[:end].decode().split()
    w, h = (int(next(t[1:] for t in head if t[0] == c)) for c in "WH")
    kind = next((t[1:] for t in head if t[0] == "C"), "420")
    size = w * h * 3 if kind.startswith("444") else w * h + 2 * ((w + 1) // 2) * ((h + 1) // 2)
    frames, at = [], end + 1
    while at < len(data):
        at = data.index(b"\n", at) + 1
        frames.append(np.frombuffer(data, np.uint8, size, at).astype(np.float32))
        at += size
    return np.stack(frames)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("file"), a.add_argument("--clip-length", type=int, default=8), a.add_argument("--overlap", type=int, default=2)
    o = a.parse_args()
    x = read_y4m(o.file)
    d = np.abs(x[1:] - x[:-1]).mean(1)
    stride = o.clip_length - o.overlap
    border = np.array([i + 1 >= stride and (i + 1) % stride <= o.overlap for i in range(len(d))])
    inside, across = d[~border].mean(), d[border].mean()
    print(json.dumps(dict(frames=len(x), inside=round(float(inside), 4), across=round(float(across), 4), ratio=round(float(across / inside), 4),
                          worst=round(float(max(d[border & (np.arange(len(d)) % stride == k)].mean() for k in range(stride) if (border & (np.arange(len(d)) % stride == k)).any()) / inside), 4))))


if __name__ == "__main__":
    main()
