#!/bin/sh
# Installs inceptor on Linux from an archive that `make release` made:
#
#   install.sh --from DIR|URL [--prefix DIR]
#
# DIR or URL has checksums.txt and the archives. Root gets /opt/inceptor/VERSION and links in
# /usr/local, others ~/.local/opt/inceptor/VERSION and links in ~/.local, and with --prefix
# everything is below DIR. Nothing else is written, so configurations stay as they are.
#
# The archive's checksum is compared before it is unpacked, and the program has to open TensorFlow
# before the links lead to it. Versions that are there stay as they are. It takes sh, tar, gzip and
# sha256sum, and for a URL curl or wget.
set -eu
umask 022

say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
usage() { printf 'usage: install.sh --from DIR|URL [--prefix DIR]\n' >&2; exit 2; }

# What gets a link in $prefix.
linked='bin/inceptor share/man/man1/inceptor.1 share/bash-completion/completions/inceptor
share/zsh/site-functions/_inceptor share/fish/vendor_completions.d/inceptor.fish'

# fetch NAME brings the file NAME of $from to $work, where nobody else can change it.
fetch() {
	case $from in
	http://* | https://*)
		if command -v curl >/dev/null; then
			curl --fail --silent --show-error --location --connect-timeout 20 --speed-time 60 --speed-limit 1000 \
				--output "$work/$1" "$from/$1" >&2
		elif command -v wget >/dev/null; then
			wget -q -T 60 -t 3 -O "$work/$1" "$from/$1" >&2
		else
			die "curl or wget is missing: fetch checksums.txt and the archive by other means, and name their folder with --from"
		fi || die "$shown/$1 did not come, see above"
		;;
	*)
		[ -f "$from/$1" ] && [ -r "$from/$1" ] || die "$shown/$1 is not a file that can be read; --from names the folder or URL with the archives"
		cp "$from/$1" "$work/$1" || die "$shown/$1 could not be copied to $opt, see above"
		;;
	esac
}

# choose reads which archive is for this machine: $name, $version and $want, its checksum.
choose() {
	case $(uname -s) in Linux) ;; *) die "inceptor's archives are for Linux, and this is $(uname -s)" ;; esac
	case $(uname -m) in
	x86_64 | amd64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) die "there is no archive for the processor $(uname -m), only for x86_64 and aarch64" ;;
	esac
	fetch checksums.txt
	line=$(head -c 100000 "$work/checksums.txt" | grep -E "^[0-9a-f]{64}  inceptor_[0-9][0-9A-Za-z.-]*_linux_$arch\.tar\.gz\$") ||
		die "$shown/checksums.txt names no archive for linux/$arch"
	[ "$(say "$line" | wc -l)" -eq 1 ] || die "$shown/checksums.txt names several archives for linux/$arch; leave one of them"
	want=${line%% *}
	name=${line##* }
	version=${name#inceptor_}
	version=${version%_linux_*}
}

# starts FOLDER tells whether the program there starts and opens TensorFlow.
starts() {
	found=$("$1/bin/inceptor" version 2>&1) && say "$found" | grep -q '^TensorFlow  *[0-9]' && return
	say "$found" | grep -v '^features' >&2
	return 1
}

# unpack makes $work/new of the archive.
unpack() {
	fetch "$name"
	got=$(sha256sum <"$work/$name")
	got=${got%% *}
	[ "$got" = "$want" ] ||
		die "$shown/$name is damaged or not the one of checksums.txt: its SHA-256 is $got, not $want. Nothing was unpacked"
	mkdir "$work/unpacked"
	tar -xzof "$work/$name" -C "$work/unpacked" || die "$name could not be unpacked to $opt, see above"
	mv "$work/unpacked"/* "$work/new"
	starts "$work/new" || die "inceptor $version does not start here, see above. It takes glibc 2.28 or newer, \
libstdc++, and a file system in $opt that programs may run from (not noexec). Nothing was changed"
}

# place makes $to of $work/new. One that is there stays: it may have changes, and run.
place() {
	if [ ! -e "$to" ]; then
		mv "$work/new" "$to"
	elif ! cmp -s "$work/new/bin/inceptor" "$to/bin/inceptor"; then
		die "another build of $version is in $to: remove that folder once nothing runs it, and install again"
	elif ! starts "$to"; then
		die "$to has this version, but it does not start, see above: remove that folder, and install again"
	fi
}

# free PATH stops where PATH is not free for a link of an installation.
free() {
	if [ -L "$1" ]; then
		case $(readlink "$1") in "$opt"/*) return ;; esac
	fi
	if [ -e "$1" ] || [ -L "$1" ]; then die "$1 is there and no link to an installation in $opt: move it away"; fi
}

# link TARGET PATH makes PATH a link to TARGET at once, so that there always is one.
link() {
	mkdir -p "${2%/*}"
	rm -f "$2.new"
	ln -s "$1" "$2.new"
	mv -f "$2.new" "$2"
}

main() {
	from='' prefix=''
	while [ $# -gt 0 ]; do
		[ $# -gt 1 ] && [ -n "$2" ] || usage
		case $1 in
		--from) from=${2%/} ;;
		--prefix) prefix=$2 ;;
		*) usage ;;
		esac
		shift 2
	done
	[ -n "$from" ] || usage
	shown=$(say "$from" | sed 's|^\([A-Za-z]*:/*\)[^/]*@|\1|') # without a password
	if [ -z "$prefix" ] && [ "$(id -u)" -eq 0 ]; then
		opt=/opt/inceptor prefix=/usr/local
	else
		prefix=${prefix:-${HOME:?is not set: name a folder with --prefix}/.local}
		mkdir -p -- "$prefix" || die "name a folder that you can write with --prefix"
		prefix=$(CDPATH='' cd -- "$prefix" && pwd)
		opt=$prefix/opt/inceptor
	fi
	mkdir -p -- "$opt" "$prefix/bin" && work=$(mktemp -d "$opt/.install.XXXXXX") ||
		die "$opt and $prefix/bin have to be writable: name another folder with --prefix"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM

	for file in $linked; do free "$prefix/$file"; done
	choose
	unpack
	to=$opt/$version
	place
	for file in $linked; do link "$to/$file" "$prefix/$file"; done

	say "The checksum of $name matches."
	say "inceptor $version is in $to,"
	say "and $prefix/bin/inceptor is a link to it."
	for other in "$opt"/[0-9]*; do
		[ "$other" = "$to" ] || [ ! -f "$other/bin/inceptor" ] ||
			say "Another version is in $other: remove it once nothing runs it."
	done
	case :$PATH: in
	*":$prefix/bin:"*) run=inceptor ;;
	*) run=$prefix/bin/inceptor ;;
	esac
	say "Next: \"$run\" demo" | sed 's|"\([^ ]*\)"|\1|'
}

main "$@"
