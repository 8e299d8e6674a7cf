#!/bin/sh
# Runs a Prefect worker so that stopping it stops its nights in good order.
#
# A worker that gets SIGTERM kills the flow runs it has started, within seconds. A night that gets SIGTERM lets the calls
# under way end, writes what came and gives its lease back. So the flow runs are told first; the worker is halted
# meanwhile, lest it starts others, and told when they have ended. As it may hang then, it has ten seconds.
set -eu

"$@" &
worker=$!
stopped=no

# shellcheck disable=SC2329  # stop calls it
# Whether a process is gone, or a zombie, which is what a flow run stays until the worker goes on.
ended() {
    [ ! -e "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# shellcheck disable=SC2329  # the trap below calls it
stop() {
    trap '' TERM INT
    stopped=yes
    kill -STOP "$worker" 2>/dev/null || return 0
    runs=$(cat "/proc/$worker/task/"*/children) || runs=
    for run in $runs; do
        kill -TERM "$run" 2>/dev/null || :
    done
    for run in $runs; do
        until ended "$run"; do sleep 0.2; done
    done
    kill -TERM "$worker"
    kill -CONT "$worker"
    left=50
    until ended "$worker" || [ "$left" = 0 ]; do
        left=$((left - 1))
        sleep 0.2
    done
    kill -KILL "$worker" 2>/dev/null || :
}
trap stop TERM INT

code=0
wait "$worker" || code=$?
if [ "$stopped" = yes ]; then
    # The signal ended `wait`; how the worker ended is still to be asked for.
    code=0
    wait "$worker" || code=$?
fi
exit "$code"
