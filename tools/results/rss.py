#!/usr/bin/env python3
"""Memory of a long run: rss.py CLIPS [SIZE]. Clips of nano through the element, with an adapter whose strength moves.

Reads the process's resident memory after every clip and prints the growth after the first 50 clips, in MB per 100
clips: over the whole run, and the worst of its quarters. Exits with 1 above 1 MB per 100 clips.
"""
import os
import subprocess
import sys

clips, size = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 32
settled, length = 50, 8
launch = (f"gst-launch-1.0 -m videotestsrc pattern=ball num-buffers={clips * length} ! "
          f"video/x-raw,format=RGB,width={size},height={size},framerate=25/1 ! "
          f"videolora steps=1 clip-length={length} overlap=0 strength=0.5 loras=<builtin:poster> "
          f"lora_0::strength-curve=0:0,30s:1,60s:0.2 ! fakesink").split()
process = subprocess.Popen(launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
page = os.sysconf("SC_PAGE_SIZE")
resident = []
tail = ""
for line in process.stdout:
    if "ERROR" in line or "error" in line:
        tail = line
    if "progress" in line and "type=(GstProgressType)complete" in line and "code=(string)clip" in line:
        with open(f"/proc/{process.pid}/statm") as file:
            resident.append(int(file.read().split()[1]) * page)
process.wait()
if len(resident) < clips:
    sys.exit(f"{len(resident)} of {clips} clips: {tail}")


def growth(first, last):
    """MB per 100 clips between two clips."""
    return (resident[last] - resident[first]) / (last - first) * 100 / 1e6


last = clips - 1
quarters = [settled + (last - settled) * part // 4 for part in range(5)]
parts = [growth(a, b) for a, b in zip(quarters, quarters[1:])]
print(f"{clips} clips {size}x{size}: {resident[settled] / 1e6:.1f} MB after {settled}, {resident[last] / 1e6:.1f} MB at the "
      f"end, peak {max(resident) / 1e6:.1f} MB; growth per 100 clips {growth(settled, last):.3f} MB, by quarters "
      + ", ".join(f"{part:.3f}" for part in parts))
sys.exit(growth(settled, last) > 1)
