#!/usr/bin/env bash
# Tries what make.sh made, as root on Debian with debootstrap and rpm:
#
#   deploy/release/test.sh
#
# It makes the same again in another folder, with empty caches, and compares the checksums. Then it
# installs the archive and the deb on a bare Debian in a chroot, without Go, Python, npm or a
# compiler, and runs the demo there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

die() { echo "test.sh: $*" >&2; exit 1; }
say() { printf '\n== %s\n' "$*" >&2; }

work=$(mktemp -d)
bare=$work/bare
clean() {
	for folder in release proc; do umount "$bare/$folder" 2>/dev/null || true; done
	chmod -R u+w "$work" # Go's caches are read-only
	rm -rf --one-file-system "$work"
}
trap clean EXIT

# again makes a release of a clone.
again() {
	git clone --quiet --no-hardlinks . "$work/clone"
	ln -s "$PWD/.tools" "$work/clone/.tools"
	git tag | while read -r tag; do git -C "$work/clone" tag -f "$tag" "$tag" >/dev/null; done
	(
		cd "$work/clone"
		export GOCACHE=$work/cache ZIG_GLOBAL_CACHE_DIR=$work/zig ZIG_LOCAL_CACHE_DIR=$work/zig
		make --silent release
	)
	diff bin/release/checksums.txt "$work/clone/bin/release/checksums.txt" || die "two builds of a commit differ, see above"
}

# inside COMMAND... runs it in the chroot, with nothing of this environment.
inside() { env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root chroot "$bare" "$@"; }

# timed NAME COMMAND... says how long it took.
timed() {
	local name=$1 since
	shift
	since=$(date +%s%N)
	"$@"
	echo "$name took $((($(date +%s%N) - since) / 1000000)) ms" >&2
}

# shellcheck disable=SC2016 # apt-get expands it
debian() {
	debootstrap --variant=minbase bookworm "$bare" "$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)" >"$work/log.txt" 2>&1 ||
		{ cat "$work/log.txt" >&2; die "debootstrap failed, see above"; }
	mkdir "$bare/release"
	mount --bind "$PWD/bin/release" "$bare/release"
	mount -t proc proc "$bare/proc"
	cp install.sh "$bare/root"
	if inside sh -c 'command -v go python3 npm node gcc cc curl'; then die "the bare system has these"; fi
}

archive() {
	timed "install.sh" inside /root/install.sh --from /release
	timed "inceptor demo --once" inside inceptor demo --once >"$work/demo.txt" || die "the demo failed"
	cat "$work/demo.txt"
	grep -q '^chelsea.png  *Egyptian cat' "$work/demo.txt" || die "the demo did not name the cat"
	inside inceptor version
	inside rm -r /opt/inceptor /usr/local/bin/inceptor
}

packages() {
	local deb rpm
	deb=$(echo bin/release/*_amd64.deb) rpm=$(echo bin/release/*_amd64.rpm)
	inside dpkg --install "/release/${deb##*/}"
	inside inceptor demo --once >"$work/demo.txt" || die "the deb's demo failed"
	grep -q '^chelsea.png  *Egyptian cat' "$work/demo.txt" || die "the deb's demo did not name the cat"
	inside inceptor config --config /etc/inceptor/inceptor.yaml >/dev/null
	echo "# mine" >>"$bare/etc/inceptor/inceptor.yaml"
	inside dpkg --install --force-confold "/release/${deb##*/}"
	inside grep -q '# mine' /etc/inceptor/inceptor.yaml || die "an upgrade replaced the configuration"
	systemd-analyze verify --root="$bare" --man=no inceptor.service
	inside dpkg --remove inceptor
	[[ ! -e $bare/opt/inceptor/bin ]] || die "the removed deb left the program"
	# An rpm has the same files. There is nothing here to install it on.
	diff <(dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's|^\.||' | grep -v '/$' | sort) <(rpm -qlp "$rpm" | sort) ||
		die "the files of deb and rpm differ"
	rpm -qp --requires --scripts "$rpm"
}

say "the same again"
timed "the second build" again
say "a bare Debian"
debian
archive
packages
ls -l bin/release/*.tar.gz bin/release/*.deb bin/release/*.rpm
