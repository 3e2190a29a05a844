# Runs in a guest with i915, i915-discrete and xe, all under a light load so that none sleeps: gpuscope on each GPU and, beside the first,
# intel_gpu_top over the same seconds, each under its own perf counters. Prints perf's lines, the case's name first.
# Arguments come in as variables: GPUSCOPE, SECONDS_MEASURED, TESTBED_CACHE.
set -euo pipefail
cd "$TMPDIR"
for node in /dev/dri/renderD*; do "${TESTBED_CACHE:-/var/cache/gpu-testbed}/bin/vgpu-load" $node rcs0 20 2000 3600 >/dev/null & done
case_of() { # NAME ARGUMENTS of gpuscope
	local name=$1; shift
	names+=("$name"); "$GPUSCOPE" stat --json --interval 1s "$@" >"$name.out" 2>"$name.err" & pids+=($!)
}
names=() pids=()
case_of gpuscope --gpu 0000:00:02.0
names+=(intel_gpu_top); intel_gpu_top -J -s 1000 -d drm:/dev/dri/card0 >intel_gpu_top.out 2>intel_gpu_top.err & pids+=($!)
case_of discrete --gpu 0000:00:03.0
case_of xe --gpu 0000:00:04.0
[ ! -e /sys/bus/event_source/devices/xe_0000_00_04.0 ] || case_of xe_pmu --gpu 0000:00:04.0 --perturbing
sleep 6 # Start-up is no part of a sample.
counters=()
for i in "${!names[@]}"; do
	perf stat -x, -e raw_syscalls:sys_enter,task-clock -p "${pids[i]}" -o "${names[i]}.perf" sleep "$SECONDS_MEASURED" & counters+=($!)
done
failed=
for counter in "${counters[@]}"; do wait "$counter" || failed=1; done
# All must have lived to here. Not SIGINT, which a shell without job control has its background jobs ignore.
for pid in "${pids[@]}"; do kill -TERM "$pid" || failed=1; done
[ -z "$failed" ] || { echo "a tool or perf failed:"; head -5 ./*.err ./*.perf; exit 1; }
for name in "${names[@]}"; do sed -n "s/^[0-9]/$name,&/p" "$name.perf"; done
kill $(jobs -p) 2>/dev/null || true
