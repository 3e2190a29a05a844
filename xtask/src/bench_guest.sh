# Runs in a guest: gpuscope and intel_gpu_top side by side over the same seconds, each under its own perf counters.
# Prints perf's lines, the tool's name first. Arguments come in as variables: GPUSCOPE, SECONDS_MEASURED.
set -euo pipefail
cd "$TMPDIR"
"$GPUSCOPE" stat --json --interval 1s >ours.json 2>ours.err & ours=$!
intel_gpu_top -J -s 1000 -d drm:/dev/dri/card0 >peer.json 2>peer.err & peer=$!
sleep 5 # Start-up is no part of a sample.
count() { perf stat -x, -e raw_syscalls:sys_enter,task-clock -p "$2" -o "$1.perf" sleep "$SECONDS_MEASURED"; }
count gpuscope $ours & a=$!
count intel_gpu_top $peer & b=$!
failed=
wait $a && wait $b || failed=1
# Both must have lived to here. Not SIGINT, which a shell without job control has its background jobs ignore.
kill -TERM $ours || failed=1
kill -TERM $peer || failed=1
wait $ours || true
wait $peer || true
if [ "$failed" ]; then
	echo "a tool or perf failed:"; head -5 ours.err peer.err ./*.perf; exit 1
fi
for tool in gpuscope intel_gpu_top; do sed -n "s/^[0-9]/$tool,&/p" "$tool.perf"; done
