#!/bin/bash
# Fetch stock Debian kernels and build the virtual GPU and its load generator.
#   setup.sh [6.1] [6.12] [7.2]        (default: all three)
# Needs root on Debian 12 and its package archive. Cache: $TESTBED_CACHE. The first time takes minutes; a change of the
# module's sources costs its rebuild (seconds); a complete cache costs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${TESTBED_CACHE:-/var/cache/gpu-testbed}
mkdir -p "$cache"/{debs,kernels,mods,bin}
[ $# -gt 0 ] || set -- 6.1 6.12 7.2
for k in "$@"; do case $k in 6.1 | 6.12 | 7.2) ;; *) echo "setup.sh: unknown kernel $k" >&2; exit 2 ;; esac; done
export DEBIAN_FRONTEND=noninteractive
# Two setups at once would build in one folder.
exec 9>"$cache/lock"
flock 9

retry() { # mirrors fail now and then: three tries, then say so
	local i
	for i in 1 2 3; do
		"$@" && return 0
		echo "setup.sh: try $i of 3 failed: $*" >&2
		sleep $((i * 5))
	done
	echo "setup.sh: gave up on: $*" >&2
	exit 1
}

mirror() { # Debian's address as this machine's own apt has it
	local uri
	uri=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
	[ -n "$uri" ] || uri=$(awk '$1=="deb"{for(i=2;i<=NF;i++)if($i~/^http/){print $i;exit}}' /etc/apt/sources.list 2>/dev/null || true)
	echo "${uri:-http://deb.debian.org/debian}"
}

# Newer kernels come from bookworm-backports and sid, pinned low so that nothing else does.
sources=/etc/apt/sources.list.d/gpu-testbed.sources
if [ ! -e $sources ]; then
	printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports sid\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$(mirror)" >$sources
	printf 'Package: *\nPin: release n=bookworm-backports\nPin-Priority: 100\n\nPackage: *\nPin: release n=sid\nPin-Priority: 40\n' \
		>/etc/apt/preferences.d/gpu-testbed
fi
updated=
update() { [ -n "$updated" ] || retry apt-get update -qq; updated=1; }
need() { # install what is missing; options first, then "--"
	local options=() missing=()
	while [ "$1" != -- ]; do options+=("$1"); shift; done
	shift
	for p in "$@"; do dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p"); done
	[ ${#missing[@]} -gt 0 ] || return 0
	update
	retry apt-get install -y -qq --no-install-recommends "${options[@]}" "${missing[@]}" >/dev/null
}
# linux-perf and intel-gpu-tools are peers: the guest sees this machine's files.
need -- gcc libc6-dev make cpio xz-utils dwarves busybox-static debootstrap kmod binutils linux-perf intel-gpu-tools
command -v qemu-system-x86_64 >/dev/null || need -t bookworm-backports -- qemu-system-x86

if [ ! -e "$cache/bin/vgpu-load" ] || [ -n "$(find "$here"/load*.[ch] -newer "$cache/bin/vgpu-load")" ]; then
	gcc -O2 -static -Wall -Wextra -Werror -o "$cache/bin/vgpu-load.new" "$here"/load*.c
	mv "$cache/bin/vgpu-load.new" "$cache/bin/vgpu-load"
fi

dependency() { apt-cache depends "$1" | sed -n "s/.*Depends: \(linux-$2-[0-9].*\)/\1/p" | head -1; }
fetch() { (cd "$cache/debs" && for p in "$@"; do ls "${p}"_*.deb >/dev/null 2>&1 || retry apt-get download -qq "$p"; done); }
unpack() { local to=$1 p; shift; mkdir -p "$to"; for p in "$@"; do dpkg -x "$cache/debs/$p"_*.deb "$to"; done; }

get_kernel() { # a kernel, its modules and its headers in $cache/kernels/K
	local k=$1 root=$cache/kernels/$1 suite image ver common pk
	[ ! -e "$root/version" ] || return 0
	update
	case $k in
	6.1) suite=bookworm-security ;;
	6.12) suite=bookworm-backports ;;
	7.2) suite=sid ;;
	esac
	image=$(dependency "linux-image-amd64/$suite" image); ver=${image#linux-image-}
	[ -n "$ver" ] || { echo "setup.sh: no kernel in $suite" >&2; exit 1; }
	case $ver in "$k".*) ;; *) echo "setup.sh: $suite now carries $ver, not $k: add a new name beside it" >&2; exit 1 ;; esac
	common=linux-headers-${ver%-amd64}-common
	case $k in
	7.2) pk=("linux-binary-unsigned-$ver" "linux-modules-$ver" "linux-headers-$ver" "$common" "linux-kbuild-${ver%-amd64}") ;;
	6.12) pk=("$image" "linux-headers-$ver" "$common" "linux-kbuild-${ver%-amd64}") ;;
	6.1) pk=("$image" "linux-headers-$ver" "$common" linux-kbuild-6.1) ;;
	esac
	fetch "${pk[@]}"; unpack "$root" "${pk[@]}"; echo "$ver" >"$root/version"
}

get_modules() { # the modules a guest loads, in order, uncompressed, and its kernel; those of virtio-gpu apart
	local k=$1 ver=$2 root=$cache/kernels/$1 out=$cache/mods/$1 tree vm m order=order
	[ ! -e "$out/base-2" ] || return 0
	mkdir -p "$out"; : >"$out/order"; : >"$out/order-virtio-gpu"
	tree=$(find "$root" -type d -path "*lib/modules/$ver" | head -1)
	declare -A seen=()
	load() {
		local f d n=${1//-/_}
		[ -z "${seen[$n]:-}" ] || return 0; seen[$n]=1
		f=$(find "$tree" \( -name "$n.ko*" -o -name "${n//_/-}.ko*" \) | head -1); [ -n "$f" ] || return 0
		case $f in *.xz) xz -dc "$f" >"$out/$n.ko" ;; *) cp "$f" "$out/$n.ko" ;; esac
		for d in $(strings -n 3 "$out/$n.ko" | sed -n 's/^depends=//p' | tr , ' '); do load "$d"; done
		echo "$n" >>"$out/$order"
	}
	for m in virtio_pci 9pnet_virtio 9p drm gpu_sched; do load $m; done
	order=order-virtio-gpu; load virtio_gpu
	vm=$(find "$root" -name 'vmlinuz*' | head -1); cp "$vm" "$out/vmlinuz"
	touch "$out/base-2"
}

get_sid() { # the build tools of the newest kernel want a newer libc than Debian 12 has: a small sid tree; its trace-cmd is one whose files are read
	local ver=$1 root=$2 sid=$cache/sid
	if [ ! -e "$sid/usr/bin/gcc-16" ] || [ ! -e "$sid/usr/bin/trace-cmd" ]; then
		rm -rf "$sid"
		retry debootstrap --variant=minbase --include=gcc-16,make,pahole,trace-cmd sid "$sid" "$(mirror)" >"$cache/debootstrap.log" 2>&1
	fi
	[ -e "$sid/.headers-$ver" ] && return 0
	mkdir -p "$sid/usr/src"
	cp -a "$root"/usr/src/* "$sid/usr/src/"; cp -a "$root"/usr/lib/linux-kbuild-* "$sid/usr/lib/"
	touch "$sid/.headers-$ver"
}

build() { # the module into $cache/build-K/vgpu.ko; the folder stays, so that make builds only what changed
	local k=$1 ver=$2 root=$cache/kernels/$1 dir=$cache/build-$1 d log=$cache/build-$1.log
	[ "$k" != 7.2 ] || { get_sid "$ver" "$root"; dir=$cache/sid/build; }
	mkdir -p "$dir"
	for d in "$dir"/*.[ch]; do [ -e "$here/vgpu/$(basename "$d")" ] || case $d in *.mod.c) ;; *) rm -f "$d" ;; esac; done
	cp -p "$here"/vgpu/* "$dir/"
	if [ "$k" = 7.2 ]; then
		mountpoint -q "$cache/sid/proc" || mount -t proc proc "$cache/sid/proc"
		chroot "$cache/sid" make -s -C "/usr/src/linux-headers-$ver" M=/build modules >"$log" 2>&1 || { cat "$log" >&2; umount "$cache/sid/proc"; exit 1; }
		umount "$cache/sid/proc"
	else
		for d in "$root"/usr/src/linux-headers-*; do ln -sfn "$d" "/usr/src/$(basename "$d")"; done
		for d in "$root"/usr/lib/linux-kbuild-*; do ln -sfn "$d" "/usr/lib/$(basename "$d")"; done
		make -s -C "/usr/src/linux-headers-$ver" M="$dir" modules >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
	fi
	# A vmlinux is not at hand, so its BTF is skipped: that is the one message expected.
	! grep -v 'BTF generation\|^$' "$log" | grep -i 'warning' >&2 || { echo "setup.sh: the module does not build cleanly on $k" >&2; exit 1; }
	cp "$dir/vgpu.ko" "$cache/mods/$k/vgpu.ko"
}

pack() { # a first file system just large enough to mount the host's, read-only, over 9p
	local out=$cache/mods/$1 t
	t=$(mktemp -d)
	mkdir -p "$t"/{bin,proc,sys,dev,rw,host,mods}
	cp /bin/busybox "$t/bin/"; cp "$out"/*.ko "$out"/order* "$t/mods/"; cp "$here/init" "$t/init"; chmod 755 "$t/init"
	(cd "$t" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$out/initrd.new"
	mv "$out/initrd.new" "$out/initrd.gz"; rm -rf "$t"
}

for k in "$@"; do
	stamp=$(cd "$here" && cat vgpu/* init setup.sh | sha256sum)
	[ -e "$cache/mods/$k/initrd.gz" ] && [ "$(cat "$cache/mods/$k/stamp" 2>/dev/null)" = "$stamp" ] && continue
	get_kernel "$k"
	ver=$(cat "$cache/kernels/$k/version")
	get_modules "$k" "$ver"
	build "$k" "$ver"
	pack "$k"
	echo "$stamp" >"$cache/mods/$k/stamp"
	echo "kernel $k ($ver): ready"
done
