#!/usr/bin/env bash
# Runs inceptor for arm64 on an x86-64 machine, in qemu's emulation of a processor, with
# TensorFlow's library for arm64. Its answers have to be those of this machine to 1e-4:
#
#   testenv/arm64.sh           tests, commands, and photos through small models (some minutes)
#   testenv/arm64.sh --full    and one photo through the Inception (4 minutes more)
#
# qemu's emulation is no measure of speed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "arm64.sh: $*" >&2; exit 1; }
say() { printf '\n== %s\n' "$*" >&2; }

testenv/setup.sh arm64
tools=$(cd .tools && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# In the root, the checkout's library is the one for arm64: qemu looks there first.
root=$work/root
mkdir -p "$root$PWD/.tools"
cp -al "$tools/arm64/." "$root" 2>/dev/null || cp -a "$tools/arm64/." "$root"
ln -s "$tools/libraries/arm64" "$root$PWD/.tools/tensorflow"

# emulated runs a program on the processor $cpu. Neoverse N1 has Advanced SIMD with dot products, as
# most arm64 servers and boards; max has all that qemu emulates, such as SVE, int8 and bfloat16.
cpu=neoverse-n1
emulated() { QEMU_LD_PREFIX=$root QEMU_CPU=$cpu qemu-aarch64-static "$@"; }

say "build"
export CGO_ENABLED=1
CC="$tools/zig/ziglang/zig cc -target aarch64-linux-gnu.2.28"
arm64() { GOARCH=arm64 CC=$CC go "$@"; }
arm64 build -o "$work/arm64" ./cmd/inceptor
go build -o "$work/amd64" ./cmd/inceptor

say "tests"
# pass PACKAGE TEST... runs tests of a package in its folder. Each has to pass: a test that is
# skipped or no longer has that name checks nothing.
pass() {
	local package=$1 names name log=$work/tests.txt
	shift
	names=$(IFS='|'; echo "$*")
	arm64 test -c -o "$work/test" "./$package"
	(cd "$package" && emulated "$work/test" -test.v -test.run "^($names)$" -test.timeout 1h) >"$log" 2>&1 ||
		{ cat "$log" >&2; die "$package for arm64 on $cpu: see above"; }
	! grep -- '--- SKIP' "$log" >&2 || die "$package for arm64 on $cpu: no test may be skipped"
	for name; do
		grep -- "^--- PASS: $name " "$log" || die "$package for arm64 on $cpu: $name did not run"
	done
}
pass internal/host TestLoadInBackground{,Restores,LeavesNone,Starves} TestAvailableMemory \
	TestMemoryLimit TestRedirectStderr TestCheckWritable
narrow=(TestInt8{,Ranges,CutsOff,NotFinite,Scales,LargestSums} TestQuantizeFloats TestFilterLimit
	TestNarrow{,Floats} TestBFloat16NotToBeHad)
pass savedmodel "${narrow[@]}" TestTensor{InfoWords,Of,Close} TestSessionClose{,Race}
for cpu in cortex-a72 max; do pass savedmodel "${narrow[@]}"; done
cpu=neoverse-n1

say "commands"
emulated "$work/arm64" version --tensorflow.library .tools/tensorflow
emulated "$work/arm64" inspect .tools/efficientnet/1 >/dev/null

say "answers"
# compare MODEL PHOTO... has both processors classify the photos.
compare() {
	local model=$1 flags
	shift
	flags=(classify --json --tensorflow.library .tools/tensorflow --model.dir "$model" --model.batch.max 1 --model.gate.timeout 1h)
	"$work/amd64" "${flags[@]}" "$@" >"$work/amd64.json" 2>/dev/null || die "classify on this machine"
	emulated "$work/arm64" "${flags[@]}" "$@" >"$work/arm64.json"
	.tools/venv/bin/python - "$work/amd64.json" "$work/arm64.json" <<-'PYTHON'
		import json, sys
		here, there = ([json.loads(line) for line in open(name)] for name in sys.argv[1:])
		most = 1e-4
		assert len(here) == len(there) > 0
		for a, b in zip(here, there):
		    assert a["class"] == b["class"], (a["class"], b["class"])
		    scores = [{p["label"]: p["score"] for p in x["predictions"]} for x in (a, b)]
		    off = max(abs(scores[0][k] - scores[1][k]) for k in scores[0].keys() & scores[1].keys())
		    assert off <= most * max(1, abs(a["score"])), off
		    print(f"{a['id'].split('/')[-1]}: {a['class']} {a['score']}, and {b['score']} on arm64; largest difference {off:.1e}")
	PYTHON
}
compare .tools/zoo/classic .tools/photos/{china.jpg,coffee.png}
compare .tools/efficientnet .tools/photos/{china.jpg,coffee.png}
if [[ ${1-} == --full ]]; then
	compare savedmodel/inception .tools/photos/china.jpg
fi
