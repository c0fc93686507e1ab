# Sizes that models were made for. Sourced by lib.sh, not run.
# trained_size MODEL: the width and height that a model was made for: what its index says, else what is usual for its kind.
trained_size() {
  case $1 in builtin:*) index=$root/models/${1#builtin:}/model_index.json ;; *) index=$1/model_index.json ;; esac
  [ -e "$index" ] || index=/dev/null
  trained=$(sed -n 's/^ *"\(width\|height\)": *\([0-9]*\).*/\2/p' "$index" | paste -sd ' ')
  if [ -z "$trained" ] && grep -q '"unet"' "$index"; then trained='512 512'; fi
  # A checkpoint in one file, or a folder that holds one.
  if [ -z "$trained" ] && [ "$index" = /dev/null ]; then
    tool=$built/videolora
    [ -x "$tool" ] || tool=videolora
    case $("$tool" inspect "$1" --json 2>/dev/null) in *'"family"'*animatediff*) trained='512 512' ;; esac
  fi
  echo "${trained:-832 480}"
}
# working_size W H [property=value…]: the area the model was trained for, in the picture's shape, both sides multiples of 16.
working_size() {
  model=builtin:nano shape="$1 $2"
  for word; do case $word in model=*) model=${word#model=} ;; esac; done
  echo "$shape $(trained_size "$model")" | awk 'function side(x) { x = int(x / 16 + .5) * 16; return x < 16 ? 16 : x }
    { s = sqrt($3 * $4 / ($1 * $2)); print side($1 * s), side($2 * s) }'
}
