#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh MODEL.pml [BUG_x] [NAME=VALUE ...]: searches all states of the model, in the current
# folder. Without a bug there must be no error; with a planted one there must be one.
set -euo pipefail

model=$1
shift
bug=
if [[ ${1:-} == BUG_* ]]; then
    bug=$1
fi

spin "${@/#/-D}" -a "$model"
"${CC:-cc}" -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=2048 -o pan pan.c
# -b: a search that is not deep enough is an error, never a pass.
./pan -b -m200000 | tee pan.out
errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out)
states=$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out | head -n 1)

if grep -Eq 'max search depth too small|out of memory|Search not completed' pan.out &&
    [ -z "$bug" ]; then
    echo "FAILED: not all states were searched"
    exit 1
fi
if [ -z "$bug" ] && [ "$errors" != 0 ]; then
    echo "FAILED: errors: $errors"
    exit 1
fi
# What must be found is a property that does not hold, not a search that gave up.
if [ -n "$bug" ] && ! grep -Eq 'assertion violated|invalid end state' pan.out; then
    echo "FAILED: $bug was not found"
    exit 1
fi
echo "errors: $errors, states: $states${bug:+, planted: $bug}"
