#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage: run_forward.sh OUTFILE [peers...]   (ROUNDS, SECS, GRID in the environment)
# GRID: words U:W:SIZE:RATE; every peer is run once per word per round, so that
# the peers of one round share the machine's mood.
set -u
OUT=$1
shift
. "$(dirname "$0")/peers.sh"
ROUNDS=${ROUNDS:-5}
SECS=${SECS:-2}
GRID=${GRID:-"100:1:32:0 100:16:32:0 1000:1:32:0 1000:16:32:0 100:1:512:0 100:16:512:0 1000:1:512:0 1000:16:512:0"}
PEERS=${*:-limit own redis nats mosquitto}
for n in $PEERS; do peer_start "$n" || exit 1; done
for r in $(seq "$ROUNDS"); do
	for g in $GRID; do
		IFS=: read -r u w s rate <<<"$g"
		for n in $PEERS; do
			echo "round=$r $(load "$n" -S forward -u "$u" -w "$w" -s "$s" -r "$rate" -t "$SECS" -W 0.4)" >>"$OUT"
		done
	done
done
