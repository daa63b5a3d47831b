#!/usr/bin/env bash
# Runs a command as one step of several: tells what it is, and after it how long that took.
# Usage: step.sh WHAT COMMAND [ARGUMENT...]
set -uo pipefail
what=$1
shift
printf -- '-- %s\n' "$what"
start=$(date +%s%N)
"$@"
status=$?
took=$(($(date +%s%N) - start))
outcome=done
[ $status = 0 ] || outcome="failed with status $status"
printf -- '   %s: %s in %d.%d s\n' "$what" "$outcome" $((took / 1000000000)) $((took / 100000000 % 10))
exit $status
