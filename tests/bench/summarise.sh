#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage: summarise.sh FILE FIELD...   median [min..max] per peer and setting
# MAXOTHER=30 leaves out runs during which other processes and the host (steal)
# took more than that percentage of one core (unset: all runs count).
# RATIO=limit divides every value by that peer's value of the same round first.
f=$1
shift
awk -v want="$*" -v maxother="${MAXOTHER:-}" -v base="${RATIO:-}" '
function med(a, n,   i, j, t) {
	for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t }
	return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
function fmt(x) { return x >= 1000 ? sprintf("%.0f", x) : x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x) }
/FAILED/ { failed[$0]++; next }
{
	delete v
	for (i = 1; i <= NF; i++) { k = index($i, "="); v[substr($i, 1, k - 1)] = substr($i, k + 1) }
	if (maxother != "" && v["other_cpu_pct"] + v["steal_pct"] > maxother + 0) { calm_out++; next }
	key = v["scen"] " U=" v["users"] ("window" in v ? " W=" v["window"] " P=" v["size"] " rate=" v["rate"] : "")
	if (!(key in seenk)) { seenk[key] = ++nk; keys[nk] = key }
	if (!(v["peer"] in seenp)) { seenp[v["peer"]] = ++np; peers[np] = v["peer"] }
	n = split(want, w, " ")
	c = ++cnt[key, v["peer"]]
	rnd[key, v["peer"], c] = v["round"]
	for (i = 1; i <= n; i++) {
		val[key, v["peer"], w[i], c] = v[w[i]]
		if (v["peer"] == base) ref[key, w[i], v["round"]] = v[w[i]]
	}
	lost[key, v["peer"]] += v["lost"]; ord[key, v["peer"]] += v["order_err"]; bad[key, v["peer"]] += v["bad"]
}
END {
	for (k = 1; k <= nk; k++) {
		printf "\n%s\n", keys[k]
		for (p = 1; p <= np; p++) {
			c = cnt[keys[k], peers[p]]
			if (!c) continue
			printf "  %-10s n=%d", peers[p], c
			for (i = 1; i <= n; i++) {
				delete a
				z = 0
				for (j = 1; j <= c; j++) {
					x = val[keys[k], peers[p], w[i], j] + 0
					if (base != "") {
						y = ref[keys[k], w[i], rnd[keys[k], peers[p], j]] + 0
						if (!y) continue
						x /= y
					}
					a[++z] = x
				}
				if (!z) continue
				m = med(a, z)
				printf "  %s %s [%s..%s]", w[i], fmt(m), fmt(a[1]), fmt(a[z])
			}
			printf "  lost %d order %d bad %d\n", lost[keys[k], peers[p]], ord[keys[k], peers[p]], bad[keys[k], peers[p]]
		}
	}
	if (calm_out) print "\nleft out as disturbed: " calm_out
	for (x in failed) print "FAILED " failed[x] "x " x
}' "$f"
