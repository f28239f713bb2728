# SPDX-License-Identifier: Apache-2.0
# Sourced by the run scripts. Starts and stops the servers under test, each on loopback, each
# ended by its own pid. From the environment:
#   BIN         folder with loadgen and echo_forward
#   USHERD      the broker; started with open authentication, its store in a scratch folder
#   BASE_PORT   ports from here on
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BASE_PORT=${BASE_PORT:-17100}
SCRATCH=$(mktemp -d)
declare -A PID PORT PROTO
ulimit -n "$(ulimit -Hn)"

# The command line of each server; $1 is its port. `exec`, so that the pid is the server's.
serve_limit() { exec "$BIN/echo_forward" "$1"; }
serve_own() {
    exec "$USHERD" --set "listen.tcp=127.0.0.1:$1" --set "store.path=$(mktemp -d -p "$SCRATCH")" \
        --set log.level=warn --set limits.prelogin_per_source=0 --set limits.requests_per_second=0
}
serve_nats() {
    printf 'host: "127.0.0.1"\nport: %d\nmax_connections: 200000\n' "$1" >"$SCRATCH/nats.conf"
    exec nats-server -c "$SCRATCH/nats.conf"
}
serve_mosquitto() {
    printf '%s\n' "listener $1 127.0.0.1" 'allow_anonymous true' 'persistence false' \
        'max_inflight_messages 0' 'max_queued_messages 0' 'set_tcp_nodelay true' \
        'log_type error' >"$SCRATCH/mosquitto.conf"
    exec mosquitto -c "$SCRATCH/mosquitto.conf"
}
serve_redis() {
    cd "$SCRATCH" || exit 1
    exec redis-server --port "$1" --bind 127.0.0.1 --save '' --appendonly no --protected-mode no \
        --maxclients 200000 --tcp-backlog 4096 --client-output-buffer-limit 'pubsub 0 0 0'
}

peer_start() { # NAME
    local name=$1
    case $name in
    limit) PORT[$name]=$((BASE_PORT + 1)) PROTO[$name]=raw ;;
    own) PORT[$name]=$((BASE_PORT + 2)) PROTO[$name]=usher ;;
    nats) PORT[$name]=$((BASE_PORT + 3)) PROTO[$name]=nats ;;
    mosquitto) PORT[$name]=$((BASE_PORT + 4)) PROTO[$name]=mqtt ;;
    redis) PORT[$name]=$((BASE_PORT + 5)) PROTO[$name]=redis ;;
    *)
        echo "no such peer: $name" >&2
        return 1
        ;;
    esac
    ("serve_$name" "${PORT[$name]}") >"$SCRATCH/$name.log" 2>&1 &
    PID[$name]=$!
    for _ in $(seq 100); do
        if (exec 3<>"/dev/tcp/127.0.0.1/${PORT[$name]}") 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "$name does not listen; its log:" >&2
    tail -n 5 "$SCRATCH/$name.log" >&2
    return 1
}

peer_stop() { # NAME
    [ -n "${PID[$1]:-}" ] || return 0
    kill "${PID[$1]}" 2>/dev/null
    wait "${PID[$1]}" 2>/dev/null
    unset "PID[$1]"
}

peers_end() {
    local name
    for name in "${!PID[@]}"; do peer_stop "$name"; done
    rm -rf "$SCRATCH"
}
trap peers_end EXIT

load() { # NAME loadgen-options...
    local name=$1
    shift
    timeout 240 "$BIN/loadgen" -P "${PROTO[$name]}" -p "${PORT[$name]}" -b "${PID[$name]}" \
        -l "$name" "$@"
    [ $? -le 1 ] || echo "peer=$name FAILED args=$*"
}
