#!/usr/bin/env bash
# Builds container images of this checkout with docker or podman, tries each with
# a real broker, and prints what they weigh:
#
#   testenv/images.sh [cpu] [gpu]
#
# TOOL=podman chooses the tool, SOURCE=URL becomes the label with the address of
# the source, and GO and PYTHON name other base images. Podman also writes the image
# with zstd layers to .tools/images.
#
# Where no registry can be reached, root makes the two base images of Debian's
# packages and this machine's Go, with debootstrap. They are named
# localhost/inceptor-base, and made again after `podman rmi inceptor-base`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$PWD/.tools/images

die() { printf 'images: %s\n' "$*" >&2; exit 1; }
say() { printf 'images: %s\n' "$*" >&2; }

find_tool() {
	if docker info >/dev/null 2>&1; then echo docker; else command -v podman >/dev/null && echo podman; fi
}

installs() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# bring PACKAGE... installs Debian packages.
bring() {
	say "install $*"
	{ apt-get update && apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"; } >"$out/apt.txt" 2>&1 ||
		{ cat "$out/apt.txt" >&2; die "apt-get did not install $*"; }
}

# make_base makes an image with Debian, Go, a C compiler and pip. They trust the
# certificates that this machine trusts; what is copied from the image does not.
make_base() {
	local root=$out/base
	installs || die "no registry can be reached, and only root on Debian can make the base images: podman pull $GO $PYTHON first"
	command -v debootstrap >/dev/null || bring debootstrap
	say "no registry can be reached: make the base image of Debian's packages (some minutes)"
	rm -rf "$root"
	debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,python3-pip,tzdata bookworm "$root" >"$out/debootstrap.txt" ||
		die "debootstrap did not work, see $out/debootstrap.txt"
	cp -a "$(go env GOROOT)" "$root/usr/local/go"
	cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/machine.crt"
	tar -C "$root" --create --exclude ./var/cache/apt . | "$TOOL" import \
		--change "ENV PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin" --change "ENV GOPATH=/go" \
		--change "ENV SSL_CERT_FILE=/etc/ssl/machine.crt" --change "ENV PIP_CERT=/etc/ssl/machine.crt" - inceptor-base >/dev/null
	rm -rf "$root"
}

# has IMAGE tells whether an image is here, or brings it.
has() { "$TOOL" image inspect "$1" >/dev/null 2>&1 || "$TOOL" pull --quiet "$1" >/dev/null 2>&1; }

build() {
	local name=$1
	say "build inceptor:$name"
	"$TOOL" build --file "Dockerfile.$name" --tag "inceptor:$name" "${flags[@]}" --build-arg "GO=$GO" --build-arg "PYTHON=$PYTHON" \
		--build-arg "VERSION=$(deploy/release/version.sh)" --build-arg "REVISION=$(git rev-parse HEAD)" \
		--build-arg "CREATED=$(TZ=UTC0 git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)" \
		--build-arg "SOURCE=${SOURCE-}" . >"$out/$name.txt" 2>&1 || { tail -n 40 "$out/$name.txt" >&2; die "inceptor:$name was not built"; }
}

# size prints an image's bytes unpacked, and of its layers in both compressions.
size() {
	local name=$1 unpacked gzip zstd="-"
	unpacked=$("$TOOL" image inspect --format '{{.Size}}' "inceptor:$name")
	if [[ $TOOL == podman ]]; then
		rm -rf "$out/$name-gzip" "$out/$name-zstd"
		podman push --quiet --compression-format gzip "inceptor:$name" "oci:$out/$name-gzip"
		podman push --quiet --compression-format zstd "inceptor:$name" "oci:$out/$name-zstd"
		gzip=$(du -sb "$out/$name-gzip" | cut -f1) zstd=$(du -sb "$out/$name-zstd" | cut -f1)
		rm -r "$out/$name-gzip"
	else
		gzip=$("$TOOL" save "inceptor:$name" | gzip | wc -c)
	fi
	printf '%s\t%s\t%s\t%s\n' "inceptor:$name" "$unpacked" "$gzip" "$zstd" |
		awk '{ for (i = 2; i <= NF; i++) if ($i != "-") $i = int($i / 1e6 + .5); printf "%s: %s MB unpacked, %s MB with gzip, %s MB with zstd\n", $1, $2, $3, $4 }'
}

mkdir -p "$out"
TOOL=${TOOL:-$(find_tool)} || { installs || die "docker or podman is missing: apt-get install podman"; bring podman runc; TOOL=podman; }
GO=${GO:-$(sed -n 's/^ARG GO=//p' Dockerfile.cpu)} PYTHON=${PYTHON:-$(sed -n 's/^ARG PYTHON=//p' Dockerfile.cpu)}
flags=()
if [[ $TOOL == podman ]]; then
	# Each file has the commit's time, so that the same commit makes the same layers.
	flags=(--network host --timestamp "$(git log -1 --format=%ct)")
	conf=
	# A machine may allow less than podman asks for by default.
	prlimit --nofile=1048576 true 2>/dev/null ||
		conf+=$'[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
	# Only runc takes both kinds of cgroups at once.
	[[ ! -d /sys/fs/cgroup/unified ]] || ! command -v runc >/dev/null || conf+=$'[engine]\nruntime = "runc"\n'
	if [[ $conf ]]; then
		printf %s "$conf" >"$out/containers.conf"
		export CONTAINERS_CONF=$out/containers.conf
	fi
fi
if ! has "$GO" || ! has "$PYTHON"; then
	GO=inceptor-base PYTHON=inceptor-base
	"$TOOL" image inspect inceptor-base >/dev/null 2>&1 || make_base
fi
[[ $# -gt 0 ]] || set -- cpu gpu
for name; do
	build "$name"
	size "$name"
done
go run ./testenv/images -tool "$TOOL" "${@/#/inceptor:}"
