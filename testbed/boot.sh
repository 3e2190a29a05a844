#!/bin/bash
# Run a command on a stock Debian kernel with virtual GPUs, and print what it prints as it comes.
#   boot.sh [-k 6.1|6.12|7.2] [-g i915,xe] [-m 'param=value ...'] [-t SECONDS] [-d WORKDIR] -- COMMAND...
# One argument is a shell line; several are a command with its arguments.
# The guest sees this machine's files read-only (/tmp too; TMPDIR is writable), WORKDIR read-write as /mnt, where the
# command starts, and has root's rights. Exit status: the command's; 124 on time-out; 125 when the kernel complained.
set -euo pipefail
cache=${TESTBED_CACHE:-/var/cache/gpu-testbed} k=6.12 gpus=i915,xe t=120 work= params=
while getopts k:g:m:t:d: o; do case $o in k) k=$OPTARG ;; g) gpus=$OPTARG ;; m) params=$OPTARG ;; t) t=$OPTARG ;; d) work=$OPTARG ;; *) exit 2 ;; esac; done
shift $((OPTIND - 1))
[ "$gpus" != none ] || gpus=
dev=() slot=2 virtio= bound=	# one PCI device per GPU; an integrated Intel GPU always sits at 00:02.0
for g in ${gpus//,/ }; do
	# qemu's own GPU with the kernel's own driver: no identity of the module, at a slot behind all of them
	[ "$g" != virtio-gpu ] || { virtio=virtio_gpu_too; dev+=(-device virtio-gpu-pci,addr=09.0); continue; }
	case $g in i915 | i915-discrete | i915-mtl | xe | xe-integrated | amdgpu) ;; *) echo "unknown identity $g: i915, i915-discrete, i915-mtl, xe, xe-integrated, amdgpu, virtio-gpu" >&2; exit 2 ;; esac
	dev+=(-device "pci-testdev,addr=$(printf %02x $slot).0"); slot=$((slot + 1)) bound=$bound,$g
done
[ $slot -le 8 ] || { echo "at most six GPUs" >&2; exit 2; }
[ $# -gt 0 ] || { echo "no command" >&2; exit 2; }
m=$cache/mods/$k; [ -e "$m/initrd.gz" ] || { echo "kernel $k is not set up: run setup.sh $k" >&2; exit 2; }
made=
cleanup() { [ -z "$made" ] || rm -rf "$made"; }
trap cleanup EXIT
[ -n "$work" ] || { work=$(mktemp -d); made=$work; }
work=$(cd "$work" && pwd)
if [ $# = 1 ]; then printf '%s\n' "$1"; else printf '%q ' "$@"; fi >"$work/command"; chmod 755 "$work"
rm -f "$work"/{output,status,dmesg}; : >"$work/output"; printf '%s\n' "$params" >"$work/params"
timeout "$t" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -vga none -nic none -no-reboot \
	-kernel "$m/vmlinuz" -initrd "$m/initrd.gz" -append "console=ttyS0 quiet panic=-1 vgpu=${bound#,} $virtio" \
	-fsdev local,id=h,path=/,security_model=none,readonly=on -device virtio-9p-pci,fsdev=h,mount_tag=host,addr=10.0 \
	-fsdev "local,id=w,path=$work,security_model=none" -device virtio-9p-pci,fsdev=w,mount_tag=work,addr=11.0 \
	"${dev[@]}" </dev/null >"$work/console" 2>&1 &
qemu=$!
trap 'kill $qemu 2>/dev/null; wait $qemu 2>/dev/null; cleanup' EXIT
tail -n +1 -s 0.2 -f --pid=$qemu "$work/output"
wait $qemu || true
trap cleanup EXIT
[ -e "$work/status" ] || { echo "the guest did not finish in $t s; its console:" >&2; tail -20 "$work/console" >&2; exit 124; }
! grep -E 'BUG|Oops|WARNING|UBSAN|cannot create duplicate' "$work/dmesg" >&2 || exit 125
exit "$(cat "$work/status")"
