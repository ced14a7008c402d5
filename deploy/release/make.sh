#!/usr/bin/env bash
# Makes what is published:
#
#   deploy/release/make.sh        archives, deb and rpm for amd64 and arm64, their contents (SBOM)
#                                 and checksums, in bin/release
#   deploy/release/make.sh amd64  only the archive for amd64, of the program that make build made,
#                                 quickly and little compressed, in bin/archive
#
# Two releases of one commit with the same Go and the same .tools are equal, byte for byte.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VERSION=$(deploy/release/version.sh)
ZIG=$PWD/.tools/zig/ziglang/zig
# Where git has no remote, goreleaser does not look for the commit's time itself.
DATE=$(git log -1 --format=%cI)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export VERSION ZIG DATE SOURCE_DATE_EPOCH

case ${1-} in
amd64)
	testenv/setup.sh amd64
	name=inceptor_${VERSION}_linux_amd64
	rm -rf bin/archive
	deploy/release/stage.sh amd64 "bin/archive/$name"
	cp bin/inceptor "bin/archive/$name/bin"
	cd bin/archive
	tar -c "$name" | gzip -1 >"$name.tar.gz"
	sha256sum "$name.tar.gz" >checksums.txt
	rm -r "$name"
	;;
'')
	testenv/setup.sh release
	rm -rf bin/stage
	for arch in amd64 arm64; do deploy/release/stage.sh "$arch" "bin/stage/$arch"; done
	# An archive's program may be in /usr/local/bin, where systemd looks first.
	sed 's|^ExecStart=|&/usr/bin/|' deploy/systemd/inceptor.service >bin/stage/inceptor.service
	.tools/bin/goreleaser release --config deploy/release/goreleaser.yaml --snapshot --clean
	;;
*) echo "make.sh: $1: amd64, or nothing for all" >&2; exit 2 ;;
esac
