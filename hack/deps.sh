#!/bin/sh
# Installs what the named groups need and the machine lacks, and nothing else.
#
#   hack/deps.sh [group…]        groups: demo vm test bench lint (default: test)
#
# Debian and Ubuntu packages come through apt-get, as root or through sudo, with at most one "apt-get update". On other systems the script
# says what is missing and fails. Go tools are built at pinned versions into .tools/bin of this checkout.
set -eu

DISTRIBUTION=github.com/distribution/distribution/v3/cmd/registry@v3.1.2
CRANE=github.com/google/go-containerregistry/cmd/crane@v0.22.1
VERSITYGW=github.com/versity/versitygw/cmd/versitygw@v1.8.0
COSIGN=github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
CONTAINERD=github.com/containerd/containerd/v2/cmd
CONTAINERD_VERSION=v2.4.2
AXE=axe-core@4.14.1
GOLANGCI=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
bin=$root/.tools/bin
PATH=$PATH:/usr/sbin:/sbin # mkfs.ext4 and depmod live there, and not every user's PATH has them
missing=                   # Debian packages

die() {
	echo "deps: $*" >&2
	exit 1
}

# need PACKAGE PROGRAM: the Debian package is missing if the program is.
need() {
	command -v "$2" >/dev/null 2>&1 && return
	case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac
}

# need_file PACKAGE GLOB: the same, for packages that are not found by a program.
need_file() {
	for f in $2; do
		[ -e "$f" ] && return
	done
	case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac
}

# need_vm is what the kernels in virtual machines need: two modules rebuilt, a disk, a machine to boot them in.
need_vm() {
	need gcc gcc
	need binutils strip
	need_file libc6-dev /usr/include/stdio.h
	need make make
	need xz-utils xz
	need kmod depmod
	need e2fsprogs mkfs.ext4
	need xfsprogs mkfs.xfs
	need btrfs-progs mkfs.btrfs
	need dmsetup dmsetup
	need busybox-static busybox
	need qemu-system-x86 qemu-system-x86_64
	need_file libelf1 "/usr/lib/*/libelf.so.1 /lib/*/libelf.so.1"
}

# gotool MODULE/cmd/NAME@VERSION: builds the program unless it is there at this version.
gotool() {
	name=${1%@*}
	name=${name##*/}
	version=${1##*@}
	if [ -x "$bin/$name" ] && go version -m "$bin/$name" | awk -v v="$version" '$1 == "mod" && $3 == v { found = 1 } END { exit !found }'; then
		return
	fi
	echo "deps: building $name $version"
	mkdir -p "$bin"
	# The environment of a cross build must not reach a program that is to run here.
	(cd "$root" && env -u GOOS -u GOARCH CGO_ENABLED=0 GOBIN="$bin" go install -trimpath -ldflags="-s -w" "$1")
}

# moduletools DIR BIN MODULE NAME...: builds the tools of the module in hack/DIR into a directory, unless all are there with the version of MODULE that it requires, or has in place
# of one that it requires. What cannot be installed by itself, because its go.mod excludes or replaces versions, or because it is a package without a program, can from within a module
# that requires it.
moduletools() {
	dir=$root/hack/$1 into=$2 module=$3
	shift 3
	version=$(awk -v m="$module" '{ for (i = 1; i < NF; i++) if ($i == m) print $(i + 1) }' "$dir/go.mod")
	for name; do
		if ! { [ -x "$into/$name" ] && go version -m "$into/$name" | awk -v m="$module" -v v="$version" '$2 == m && $3 == v { found = 1 } END { exit !found }'; }; then
			echo "deps: building $name $version"
			mkdir -p "$into"
			(cd "$dir" && env -u GOOS -u GOARCH CGO_ENABLED=0 GOBIN="$into" go install -trimpath -ldflags="-s -w" tool)
			return
		fi
	done
}

# npmpackage NAME@VERSION: installs the package of npm into .tools/npm unless it is there at this version.
npmpackage() {
	name=${1%@*} version=${1##*@} dir=$root/.tools/npm
	if grep -qs "\"version\": \"$version\"" "$dir/node_modules/$name/package.json"; then
		return
	fi
	echo "deps: installing $name $version"
	mkdir -p "$dir"
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" "$1" >/dev/null || die "npm install $1 failed"
}

install_missing() {
	[ -n "$missing" ] || return 0
	if ! command -v apt-get >/dev/null 2>&1; then
		die "please install these programs' packages (Debian's names):$missing"
	fi
	set -- env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null 2>&1 || die "run as root: apt-get install$missing"
		set -- sudo "$@"
	fi
	echo "deps: installing$missing"
	"$@" update >/dev/null || die "apt-get update failed"
	# shellcheck disable=SC2086 # the list is meant to be split
	"$@" install -y --no-install-recommends $missing </dev/null >/dev/null || die "apt-get install$missing failed"
}

command -v go >/dev/null 2>&1 || die "please install Go ($(sed -n 's/^go //p' "$root/go.mod") or newer): https://go.dev/dl"

[ $# -gt 0 ] || set -- test
tools=
packages=
modules=
for group; do
	case $group in
	demo)
		need gzip gzip
		need tar tar
		tools="$tools $DISTRIBUTION $CRANE"
		;;
	bench)
		need erofs-utils mkfs.erofs
		need debootstrap debootstrap
		need gzip gzip
		need tar tar
		need runc runc # for the containers that peers are compared in
		tools="$tools $DISTRIBUTION $CRANE"
		;;
	test)
		# Independent judges of what pagein writes.
		need erofs-utils fsck.erofs
		need zstd zstd
		need tar tar
		# A service manager that runs in namespaces of its own, to try the units with.
		need_file systemd /usr/lib/systemd/systemd
		need util-linux unshare
		# Trees to try it on.
		need debootstrap debootstrap
		need npm npm
		# A browser that reports are shown to, letters for it, and a judge of their accessibility.
		need chromium chromium
		need_file fonts-dejavu-core "/usr/share/fonts/*/*/*.ttf /usr/share/fonts/*/*/*/*.ttf"
		packages="$packages $AXE"
		# Keys that sign.
		need openssl openssl
		# Servers that images are read from, and a proxy.
		need nginx-light nginx
		need tinyproxy-bin tinyproxy
		# The compiler of the probes, to compare what is committed with what it makes of their source.
		need clang-19 clang-19
		need llvm-19 llvm-strip-19
		need_file libbpf-dev /usr/include/bpf/bpf_helpers.h
		# What runs containers.
		need runc runc
		need_vm
		tools="$tools $DISTRIBUTION $VERSITYGW $COSIGN"
		for name in containerd containerd-shim-runc-v2 ctr; do
			tools="$tools $CONTAINERD/$name@$CONTAINERD_VERSION"
		done
		modules=yes
		;;
	vm) need_vm ;;
	lint)
		tools="$tools $GOLANGCI"
		;;
	*) die "unknown group: $group (known: demo vm test bench lint)" ;;
	esac
done
install_missing
for tool in $tools; do
	gotool "$tool"
done
for package in $packages; do
	npmpackage "$package"
done
if [ -n "$modules" ]; then
	moduletools containerd-1.7 "$bin/containerd-1.7" github.com/containerd/containerd containerd containerd-shim-runc-v2 ctr
	moduletools nerdctl "$bin" github.com/containerd/nerdctl/v2 nerdctl
	moduletools crictl "$bin" github.com/k3s-io/cri-tools crictl
fi
