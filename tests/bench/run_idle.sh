#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage: run_idle.sh OUTFILE [peers...]   idle connections and the connect storm;
# the server is started anew for each number, so that memory starts from zero.
set -u
OUT=$1
shift
. "$(dirname "$0")/peers.sh"
ROUNDS=${ROUNDS:-3}
SIZES=${SIZES:-10000}
SETTLE=${SETTLE:-4}
AFTER=${AFTER:-4}
PEERS=${*:-limit own redis nats mosquitto}
for r in $(seq "$ROUNDS"); do
	for u in $SIZES; do
		for n in $PEERS; do
			peer_start "$n" || exit 1
			echo "round=$r $(load "$n" -S idle -u "$u" -i $((u / 5000 + 1)) -T "$SETTLE" -a "$AFTER" -s 512)" >>"$OUT"
			peer_stop "$n"
			sleep 1
		done
	done
done
