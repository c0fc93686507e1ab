#!/bin/sh
# The engine beside its peers, one run (docs/RESULTS.md): speed.sh PATH_OF_VIDEOLORA --peers DIR --models DIR […]
# `speed.sh --help` lists the rest. Needs the peers' Python (torch, diffusers) and numpy.
set -eu
cd "$(dirname "$0")/../.."
exec python3 tools/results/speed.py "$@"
