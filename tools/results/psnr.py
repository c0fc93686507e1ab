#!/usr/bin/env python3
"""PSNR in dB of .y4m files against the first: psnr.py REFERENCE.y4m OTHER.y4m …"""
import sys

import numpy


def planes(path):
    """All bytes of all frames."""
    with open(path, "rb") as file:
        header = file.readline().split()
        width, height = (int(next(word[1:] for word in header if word[:1] == key)) for key in (b"W", b"H"))
        chroma = next((word[1:] for word in header if word[:1] == b"C"), b"420")
        size = width * height * 3 if chroma.startswith(b"444") else (
            width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2))
        frames = []
        while file.readline().startswith(b"FRAME"):
            frames.append(numpy.frombuffer(file.read(size), dtype=numpy.uint8))
    return numpy.stack(frames).astype(numpy.float64)


reference = planes(sys.argv[1])
for path in sys.argv[2:]:
    error = ((planes(path) - reference) ** 2).mean()
    print("equal" if error == 0 else f"{10 * numpy.log10(255 ** 2 / error):.1f}")
