#!/bin/sh
# Imports show direction: a target imports only what stands below it (docs/architecture.md).
set -eu
cd "$(dirname "$0")/.."
bad=0
rule() { # rule FOLDER 'modules that its files must not import'
  found=$(grep -rnE "^ *((public|package|internal|private|fileprivate|@_exported) +)*import +(struct +|class +|enum +|func +)?($2)([. ]|$)" \
    --include='*.swift' "$1" || true)
  [ -z "$found" ] || { echo "$found"; bad=1; }
}
edges='ArgumentParser|CGStreamer|CGStreamerCheck|GStreamerKit|GstVideoLoRA'
libraries='COpenBLAS|COneDNN|CKernels'
tokenizer='CSentencePiece'
rule Sources/TensorCore "$edges|DiffusionLayers|DiffusionModels|DiffusionPipelines|DiffusionTraining|CBuiltinModels|$tokenizer|Foundation|FoundationEssentials"
rule Sources/DiffusionLayers "$edges|$libraries|$tokenizer|DiffusionModels|DiffusionPipelines|DiffusionTraining|Foundation|FoundationEssentials"
rule Sources/DiffusionModels "$edges|$libraries|DiffusionPipelines|DiffusionTraining|CBuiltinModels|Foundation|FoundationEssentials"
rule Sources/DiffusionPipelines "$edges|DiffusionTraining|$libraries|$tokenizer|CBuiltinModels|Foundation|FoundationEssentials"
rule Sources/DiffusionTraining "$edges|$libraries|$tokenizer|CBuiltinModels|Foundation|FoundationEssentials"
rule Sources/videolora "CGStreamer|CGStreamerCheck|GstVideoLoRA|$libraries|$tokenizer|CBuiltinModels"
rule plugin/GStreamerKit "TensorCore|DiffusionLayers|DiffusionModels|DiffusionPipelines|Foundation|FoundationEssentials"
rule plugin/GstVideoLoRA "ArgumentParser|DiffusionModels|$libraries|$tokenizer|CBuiltinModels|Foundation|FoundationEssentials"
[ "$bad" -eq 0 ] || { echo "imports point upward: the type lives in the wrong place" >&2; exit 1; }
