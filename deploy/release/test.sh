#!/usr/bin/env bash
# Tries what make.sh made, as root on Debian with debootstrap, rpm and systemd-container:
#
#   deploy/release/test.sh
#
# It makes the same again in another folder, with empty caches and the same .tools, and compares the
# checksums. Then it
# installs the archive and the deb on a bare Debian in a chroot, without Go, Python, npm or a
# compiler, and runs the demo there, and the service under that system's systemd.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

die() { echo "test.sh: $*" >&2; exit 1; }
say() { printf '\n== %s\n' "$*" >&2; }

work=$(mktemp -d)
bare=$work/bare
deb=$(echo bin/release/*_amd64.deb)
rpm=${deb%.deb}.rpm
unmount() { for folder in release proc; do umount "$bare/$folder" 2>/dev/null || true; done; }
clean() {
	unmount
	chmod -R u+w "$work" # Go's caches are read-only
	rm -rf --one-file-system "$work"
}
trap clean EXIT

# again makes a release of a clone.
again() {
	git clone --quiet --no-hardlinks . "$work/clone"
	ln -s "$PWD/.tools" "$work/clone/.tools"
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
	"$@" || return
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
	for command in go python3 npm node gcc cc curl wget; do
		if inside which "$command"; then die "the bare system has $command"; fi
	done
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
	inside dpkg --install "/release/${deb##*/}"
	inside inceptor demo --once >"$work/demo.txt" || die "the deb's demo failed"
	grep -q '^chelsea.png  *Egyptian cat' "$work/demo.txt" || die "the deb's demo did not name the cat"
	inside inceptor config --config /etc/inceptor/inceptor.yaml >/dev/null
	echo "# mine" >>"$bare/etc/inceptor/inceptor.yaml"
	inside dpkg --install --force-confold "/release/${deb##*/}"
	inside grep -q '# mine' /etc/inceptor/inceptor.yaml || die "an upgrade replaced the configuration"
	inside dpkg --remove inceptor
	[[ ! -e $bare/usr/lib/inceptor/bin ]] || die "the removed deb left the program"
	# An rpm has the same files. There is nothing here to install it on.
	diff <(dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's|^\.||' | grep -v '/$' | sort) \
		<(rpm -qp --queryformat '[%{FILEMODES:perms} %{FILENAMES}\n]' "$rpm" | sed -n 's|^[^d][^ ]* ||p' | sort) ||
		die "the files of deb and rpm differ"
	rpm -qp --requires --scripts "$rpm"
}

# service runs the deb's unit, with every restriction in it, against the demo's broker.
service() {
	systemd-analyze security --offline=true --threshold=20 deploy/systemd/inceptor.service | tail -n 1
	inside dpkg --install "/release/${deb##*/}"
	inside sh -c 'apt-get update && apt-get install --yes --no-install-recommends systemd dbus' >"$work/log.txt" 2>&1 ||
		{ cat "$work/log.txt" >&2; die "systemd was not installed, see above"; }
	unmount
	echo 127.0.0.1 localhost >"$bare/etc/hosts"
	cp deploy/release/try-service.sh "$bare/root"
	printf '[Service]\nType=oneshot\nExecStart=/root/try-service.sh\nStandardOutput=file:/root/out.txt\nStandardError=file:/root/out.txt\n' \
		>"$bare/etc/systemd/system/try.service"
	mkdir -p "$bare/etc/systemd/system/multi-user.target.wants"
	ln -s ../try.service "$bare/etc/systemd/system/multi-user.target.wants"
	timeout 600 systemd-nspawn --directory "$bare" --boot --register=no --keep-unit --private-network \
		--bind-ro="$PWD/bin/release:/release" </dev/null >"$work/log.txt" 2>&1 || true
	cat "$bare/root/out.txt"
	[[ $(tail -n 1 "$bare/root/out.txt") == passed ]] || { cat "$work/log.txt" >&2; die "the service did not work, see above"; }
}

say "the same again"
timed "the second build" again
say "a bare Debian"
debian
archive
packages
service
ls -l bin/release/*.tar.gz bin/release/*.deb bin/release/*.rpm
