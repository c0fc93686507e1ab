#!/bin/sh
# Memory of a long run (docs/RESULTS.md): rss.sh FOLDER_OF_PLUGIN [CLIPS]
set -eu
cd "$(dirname "$0")/../.."
export GST_PLUGIN_PATH=$1 G_DEBUG=fatal-criticals
exec python3 tools/results/rss.py "${2:-2000}"
