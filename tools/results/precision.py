"""PSNR of frames in bf16 and int8 against f32, by clip of 8 frames: precision.py FOLDER NAME …  (files NAME.PRECISION.y4m)"""
import sys
import numpy as np
from seam import read_y4m

folder, names = sys.argv[1], sys.argv[2:]
print("| clip | bf16 dB | int8 dB |\n|---|---|---|")
worst = dict(bf16=[], int8=[])
for name in names:
    exact = read_y4m(f"{folder}/{name}.f32.y4m")
    for first in range(0, len(exact) // 8 * 8, 8):
        row = []
        for precision, found in worst.items():
            other = read_y4m(f"{folder}/{name}.{precision}.y4m")
            error = ((exact[first:first + 8] - other[first:first + 8]) ** 2).mean()
            found.append(10 * np.log10(255 ** 2 / error) if error else np.inf)
            row.append("equal" if not error else f"{found[-1]:.1f}")
        print(f"| {name} {first}-{first + 7} | {row[0]} | {row[1]} |")
for precision, found in worst.items():
    print(f"{precision}: {len(found)} clips, worst {min(found):.1f} dB, mean {np.mean(found):.1f} dB")
