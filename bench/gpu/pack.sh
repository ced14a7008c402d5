#!/usr/bin/env bash
# Makes a folder to copy to a machine with an NVIDIA card, which needs nothing but its driver, glibc
# 2.28 or newer and libstdc++:
#
#   bench/gpu/pack.sh [FOLDER]         with TensorFlow's library for cards (3 GB to fetch); bin/gpu
#   bench/gpu/pack.sh --cpu [FOLDER]   with the library for processors, to try the program
#
# There, FOLDER/run.sh measures for less than eight minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

testenv/setup.sh test
testenv/setup.sh release # for zig
cpu=
[[ ${1-} != --cpu ]] || { cpu=1; shift; }
to=${1:-bin/gpu}
rm -rf "$to"
mkdir -p "$to/model"
if [[ $cpu ]]; then
	mkdir "$to/tensorflow"
	cp .tools/tensorflow/libtensorflow_{cc,framework}.so.2 "$to/tensorflow"
else
	# The packages of Dockerfile.gpu; of them, the shared libraries.
	packages=$(sed -n '/^ARG LIBRARIES="/,/"$/p' Dockerfile.gpu | sed 's/ARG LIBRARIES=//; s/["\\]//g')
	.tools/venv/bin/python -m pip --disable-pip-version-check install --no-compile --no-deps --only-binary :all: --target "$to/site" $packages
	mkdir "$to/tensorflow"
	mv "$to"/site/tensorflow/libtensorflow_{cc,framework}.so.2 "$to/tensorflow"
	mv "$to/site/nvidia" "$to"
	rm -r "$to/site"
fi
cp -r savedmodel/inception/1 "$to/model"
cp -r .tools/photos "$to"
cp .tools/reference/answers.json "$to"
CGO_ENABLED=1 CC="$PWD/.tools/zig/ziglang/zig cc -target x86_64-linux-gnu.2.28" go build -o "$to/gpu" ./bench/gpu
cat >"$to/run.sh" <<'SCRIPT'
#!/bin/sh
cd "$(dirname "$0")" && exec ./gpu "$@"
SCRIPT
chmod +x "$to/run.sh"
du -sh "$to"
