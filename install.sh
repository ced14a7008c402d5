#!/bin/sh
# Installs inceptor on Linux from an archive that `make release` made:
#
#   install.sh --from DIR|URL [--prefix DIR]
#
# DIR or URL has checksums.txt and the archives. Root gets /opt/inceptor/VERSION and links in
# /usr/local, others ~/.local/opt/inceptor/VERSION and links in ~/.local, and with --prefix
# everything is below DIR. Nothing else is written, so configurations stay as they are.
#
# The archive's checksum is compared before it is unpacked, and the program has to start before
# the links lead to it. Older versions stay. It takes sh, tar, gzip and sha256sum, and for a URL
# curl or wget.
set -eu
umask 022

say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
usage() { printf 'usage: install.sh --from DIR|URL [--prefix DIR]\n' >&2; exit 2; }

# fetch NAME prints where the file NAME of $from is. One of a URL comes to $work.
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
		say "$work/$1"
		;;
	*)
		[ -f "$from/$1" ] && [ -r "$from/$1" ] || die "$from/$1 is not a file that can be read; --from names the folder or URL with the archives"
		say "$from/$1"
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
	sums=$(fetch checksums.txt)
	line=$(head -c 100000 "$sums" | grep -E "^[0-9a-f]{64}  inceptor_[0-9][0-9A-Za-z.-]*_linux_$arch\.tar\.gz\$") ||
		die "$shown/checksums.txt names no archive for linux/$arch"
	[ "$(say "$line" | wc -l)" -eq 1 ] || die "$shown/checksums.txt names several archives for linux/$arch; leave one of them"
	want=${line%% *}
	name=${line##* }
	version=${name#inceptor_}
	version=${version%_linux_*}
}

# unpack makes $work/new of the archive.
unpack() {
	archive=$(fetch "$name")
	got=$(sha256sum <"$archive")
	got=${got%% *}
	[ "$got" = "$want" ] ||
		die "$shown/$name is damaged or not the one of checksums.txt: its SHA-256 is $got, not $want. Nothing was unpacked"
	mkdir "$work/unpacked"
	tar -xzof "$archive" -C "$work/unpacked" || die "$name could not be unpacked to $opt, see above"
	mv "$work/unpacked"/* "$work/new"
	"$work/new/bin/inceptor" --version >/dev/null ||
		die "inceptor $version does not start here, see above; it takes glibc 2.28 or newer. Nothing was changed"
}

# link TARGET PATH makes PATH a link to TARGET at once, so that there always is one.
link() {
	if [ -e "$2" ] && [ ! -L "$2" ]; then die "$2 is there and no link of an installation: move it away"; fi
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
	shown=$(say "$from" | sed 's|//[^/@]*@|//|') # without a password
	if [ -z "$prefix" ] && [ "$(id -u)" -eq 0 ]; then
		opt=/opt/inceptor prefix=/usr/local
	else
		prefix=${prefix:-${HOME:?is not set: name a folder with --prefix}/.local}
		mkdir -p "$prefix" || die "name a folder that you can write with --prefix"
		prefix=$(cd "$prefix" && pwd)
		opt=$prefix/opt/inceptor
	fi
	mkdir -p "$opt" "$prefix/bin" && work=$(mktemp -d "$opt/.install.XXXXXX") ||
		die "$opt and $prefix/bin have to be writable: name another folder with --prefix"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM

	choose
	unpack
	to=$opt/$version
	if [ -e "$to" ]; then mv "$to" "$work/old"; fi
	mv "$work/new" "$to"
	link "$to/bin/inceptor" "$prefix/bin/inceptor"
	for file in man/man1/inceptor.1 bash-completion/completions/inceptor zsh/site-functions/_inceptor \
		fish/vendor_completions.d/inceptor.fish; do
		link "$to/share/$file" "$prefix/share/$file"
	done

	say "The checksum of $name matches."
	say "inceptor $version is in $to,"
	say "and $prefix/bin/inceptor is a link to it."
	for old in "$opt"/*; do
		[ "$old" = "$to" ] || say "An older version is still in $old: remove it once nothing runs it."
	done
	case :$PATH: in
	*":$prefix/bin:"*) run=inceptor ;;
	*) run=$prefix/bin/inceptor ;;
	esac
	say "Next: \"$run\" demo" | sed 's|"\([^ ]*\)"|\1|'
}

main "$@"
