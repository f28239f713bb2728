#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the npm package: build.sh FOLDER VERSION. Types are checked by tsc, esbuild makes the files.
#
# What pages load is made small; names that begin with an underscore are the client's own, and to shorten
# them saves a tenth. What only Node loads stays as it is, because Node shows the line where a fault was.
set -eu

here=$(cd -- "$(dirname -- "$0")" && pwd)
out=$1
version=$2

rm -rf -- "$out"
mkdir -p "$out"
tsc -p "$here" --outDir "$out/types"

# For each entry and form a file of its own: nothing is shared, so a page loads one. Who needs no rooms
# pays nothing for them.
bundle() {
    entry=$1
    name=$2
    shift 2
    repeated=true
    case $entry in index | global) repeated=false ;; esac
    esbuild "$here/src/$entry.ts" --bundle --target=es2020 --define:REPEATED=$repeated --log-level=warning \
        '--banner:js=/*! usher-client, Apache-2.0 */' --outfile="$out/$name" "$@"
}
for entry in index social; do
    bundle $entry $entry.js --format=esm --sourcemap --minify '--mangle-props=^_'
    bundle $entry $entry.cjs --format=cjs --sourcemap --minify '--mangle-props=^_'
done
bundle global usher-client.js --format=iife --minify '--mangle-props=^_'
bundle social-global usher-client-social.js --format=iife --minify '--mangle-props=^_'
bundle node node.js --format=esm --sourcemap --platform=node
bundle node node.cjs --format=cjs --sourcemap --platform=node
# The maps hold the sources; where those lay is nobody's matter.
sed -i -E '/^ *"sources":/s,"(\.\./)+([^"]*/)?src/,"src/,g' "$out"/*.map

# What index.d.ts, social.d.ts and node.d.ts name; a CommonJS program wants types under a name of its own.
for name in index social node api social-api errors fields social-fields; do
    cp "$out/types/$name.d.ts" "$out/$name.d.ts"
    sed -E 's,"\./([a-z-]+)\.js",".\/\1.cjs",g' "$out/types/$name.d.ts" >"$out/$name.d.cts"
done
rm -rf -- "$out/types"

sed "s/\"version\": \"0.0.0\"/\"version\": \"$version\"/" "$here/package.json" >"$out/package.json"
cp "$here/README.md" "$here/../../LICENSE" "$out"
