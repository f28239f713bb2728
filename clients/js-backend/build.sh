#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the npm package: build.sh FOLDER VERSION. Types are checked by tsc, esbuild makes the files.
#
# Codec and UTF-8 are those of clients/js, built with repeated fields. Nothing is made small: a service
# is loaded once, and its stack traces are read.
set -eu

here=$(cd -- "$(dirname -- "$0")" && pwd)
out=$1
version=$2

rm -rf -- "$out"
mkdir -p "$out"
tsc -p "$here" --outDir "$out/types"

bundle() {
    esbuild "$here/src/index.ts" --bundle --platform=node --target=node18 --define:REPEATED=true \
        --log-level=warning '--banner:js=/*! usher-backend, Apache-2.0 */' --sourcemap "$@"
}
bundle --format=esm --outfile="$out/index.js"
bundle --format=cjs --outfile="$out/index.cjs"
# The maps hold the sources; where those lay is nobody's matter.
sed -i -E '/^ *"sources":/{s,"(\.\./)+([^"]*/)?js/src/,"usher-client/,g;s,"(\.\./)+([^"]*/)?src/,"src/,g}' "$out"/*.map

# What index.d.ts names; a CommonJS program wants types under a name of its own.
for name in index api errors fields; do
    sed '/\bTable\b/d' "$out/types/js-backend/src/$name.d.ts" >"$out/$name.d.ts"
    sed -E 's,"\./([a-z]+)\.js",".\/\1.cjs",g' "$out/$name.d.ts" >"$out/$name.d.cts"
done
rm -rf -- "$out/types"

sed "s/\"version\": \"0.0.0\"/\"version\": \"$version\"/" "$here/package.json" >"$out/package.json"
cp "$here/README.md" "$here/../../LICENSE" "$out"
