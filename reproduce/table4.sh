#!/usr/bin/env bash
# Table 4: test accuracy on Clothing1M, with ResNet-50 and ImageNet weights.
#
#   bash reproduce/table4.sh --data DIR --weights FILE     the paper's settings, on a GPU
#   bash reproduce/table4.sh --preset quick                minutes on two CPU cores, no download
#
# DIR is verified first, unless it has been verified before; this reads every file once. The quick
# preset writes real images in the layout of Clothing1M, and trains a small net on them. Results go to
# results/<preset>/. Run the same command again to resume. --processes auto trains each trial on all
# GPUs of the machine; batch normalisation then sees a part of the 32 images only. Options:
# python -m chainer_jo run --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
python=.venv/bin/python
case " $* " in *' -h '* | *' --help '*) exec $python -m chainer_jo run --help ;; esac

data='' weights='' preset=paper previous=''
for argument in "$@"; do
    word=$previous$argument
    case $word in
        --data=*) data=${word#*=} ;;
        --weights=*) weights=${word#*=} ;;
        --preset=*) preset=${word#*=} ;;
    esac
    previous=''
    case $argument in --data | --weights | --preset) previous=$argument= ;; esac
done

case $data in '~/'*) data=$HOME/${data#*/} ;; esac
[ -n "$data" ] || [ "$preset" = quick ] || data=${CHAINER_JO_DATA-}
sizes=()
if [ -z "$data" ] && [ "$preset" = quick ]; then
    data=results/clothing1m_stand_in
    # No crops: without augmentation a small net memorises wrong labels in a few epochs.
    sizes=(--resize 32 --crop 32)
    if [ ! -f "$data/category_names_eng.txt" ]; then
        rm -rf "$data"
        $python reproduce/clothing1m_stand_in.py "$data"
    fi
    set -- "$@" --data "$data"
fi
# The stand-in is verified again whenever it cannot be loaded. Other data only if they never were:
# `run` says why they cannot be loaded, and the options of the last verification stay.
verified() {
    $python -c '
import sys
from chainer_jo import datasets
from chainer_jo.datasets import clothing1m
folder, is_stand_in = sys.argv[1:]
if is_stand_in:
    datasets.load("clothing1m", folder)
sys.exit(not clothing1m.index_path(folder).is_file())' "$data" "${sizes[*]-}" 2> /dev/null
}
if [ -d "$data" ] && ! verified; then
    $python -m chainer_jo data verify clothing1m --data "$data" ${sizes[@]+"${sizes[@]}"}
fi
if [ "$preset" != quick ] && { [ -z "$data" ] || [ -z "$weights" ]; }; then
    # Lists all that is missing; `run` then reports the first of these, with its exit code.
    $python -m chainer_jo doctor ${data:+--data "$data"} ${weights:+--weights "$weights"} |
        awk '/^[^ ]/ { told = /^(gpu|mpi|simplejpeg|cykooz_resizer|weights|clothing1m) / } told' >&2
fi
exec $python -m chainer_jo run table4 "$@"
