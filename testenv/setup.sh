#!/usr/bin/env bash
# Brings what inceptor's demo, tests and lint need into the checkout's ignored
# folders, through pip, npm, mvn and go. Only Chromium, the strip for arm64, and
# what nightly and arm64 name are installed into the system, with apt-get by root,
# where they are missing:
#
#   testenv/setup.sh demo     TensorFlow's library, the Inception model, photos
#   testenv/setup.sh things   the same with EfficientNet-lite0, which names objects, no Inception
#   testenv/setup.sh imagenet the same with an Inception that names objects, from the internet
#   testenv/setup.sh test     what demo and things bring, a Kafka broker, the reference answers, a
#                             zoo of models, Chromium, promtool, and what reads the answers
#   testenv/setup.sh nightly  what test brings, the Python packages that inceptor is compared with,
#                             and for root debootstrap, rpm and systemd-nspawn
#   testenv/setup.sh amd64    what the archive for amd64 has: what things brings, and TensorFlow's
#                             library stripped
#   testenv/setup.sh release  the same for arm64 too, zig, which builds for both, and what packs
#   testenv/setup.sh arm64    what test and release bring, and qemu with a C library, to run arm64
#                             programs
#   testenv/setup.sh bench    what nightly brings, and the rest of what inceptor is compared with
#   testenv/setup.sh lint     golangci-lint
#   testenv/setup.sh          all of it but release's, arm64's and bench's
#
# A step that is done is not done again until what it was made from changes: its
# stamp, written last, holds the digest of that. An interrupted step has no stamp
# and starts afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=$PWD/.tools
python=$tools/venv/bin/python
model=savedmodel/inception/1
zig=ziglang==0.15.2
# The last whose modules the Go module proxy all has.
goreleaser=github.com/goreleaser/goreleaser/v2@v2.16.0
cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
promtool=github.com/prometheus/prometheus/cmd/promtool@v0.316.0
golangci=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
say() { printf 'setup: %s\n' "$*" >&2; }

# need COMMAND HOW stops with HOW to get the command where it is missing.
need() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }

# step NAME RESULT INPUT... runs the function make_NAME unless RESULT is there
# and was made from these inputs: files, or other words that decide the result.
step() {
	local name=$1 result=$2 key
	shift 2
	key=$(for input; do [[ -f $input ]] && cat "$input" || printf '%s\n' "$input"; done | digest)
	if [[ -e $result && $(cat "$tools/stamps/$name" 2>/dev/null) == "$key" ]]; then return; fi
	rm -f "$tools/stamps/$name"
	"make_$name"
	[[ -e $result ]] || die "$name: $result was not made"
	printf '%s\n' "$key" >"$tools/stamps/$name"
}

digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# quietly NAME COMMAND... shows the command's output only where it fails. On a
# terminal it counts the seconds meanwhile, and what has come into $fetched, the
# folder that the command downloads to.
quietly() {
	local log=$tools/log/$1.txt failed=0
	shift
	start_progress
	"$@" >"$log" 2>&1 </dev/null || failed=1
	stop_progress
	# Without TensorFlow's greetings, which say nothing about the failure.
	[[ $failed == 0 ]] || { grep -vE '^(I0000|WARNING: All log messages before absl)' "$log" >&2; die "did not work: $*"; }
}

progress= # the process that shows it
start_progress() {
	[[ -t 2 ]] || return 0
	local since=$SECONDS before
	before=$(megabytes)
	while sleep 1 && kill -0 $$ 2>/dev/null; do
		printf '\r\033[K       %d s' $((SECONDS - since)) >&2
		[[ -z ${fetched-} ]] || printf ', %d MB fetched' $(($(megabytes) - before)) >&2
	done &
	progress=$!
}
stop_progress() {
	[[ -n $progress ]] || return 0
	kill "$progress" 2>/dev/null || true
	wait "$progress" 2>/dev/null || true
	progress=
	printf '\r\033[K' >&2
}
trap stop_progress EXIT

megabytes() { [[ -d ${fetched-} ]] && du -sk "$fetched" 2>/dev/null | awk '{ print int($1 / 1000) }' || echo 0; }

# find_python prints a Python that TensorFlow has wheels for.
find_python() {
	local candidate
	for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
		if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
			printf '%s\n' "$candidate"
			return
		fi
	done
	die "Python 3.10 to 3.13 with venv is missing: apt-get install python3 python3-venv, or brew install python@3.13 (PYTHON=… names another)"
}

make_venv() {
	local base quiet=()
	base=$(find_python)
	say "TensorFlow for Python, with the C library (about 300 MB to fetch, 1.5 GB unpacked)"
	[[ -t 2 ]] || quiet=(--quiet)
	rm -rf "$tools/venv" "$tools/tensorflow"
	"$base" -m venv "$tools/venv"
	"$python" -m pip --disable-pip-version-check install --no-compile --no-deps ${quiet[@]+"${quiet[@]}"} -r testenv/requirements.txt ||
		die "pip did not install testenv/requirements.txt, see above"
	# Where the service looks for libtensorflow: it needs no Python, only this folder.
	local site
	site=$("$python" -c 'import os, sys, sysconfig; print(os.path.relpath(sysconfig.get_path("purelib"), sys.argv[1]))' "$tools")
	ln -sfn "$site/tensorflow" "$tools/tensorflow"
}

# bring_library ARCH MACHINE PACKAGE brings the library of the version in
# testenv/requirements.txt, without the symbols that only a debugger reads.
bring_library() {
	local to=$tools/libraries/$1 machine=$2 package=$3 strip=$2-linux-gnu-strip name
	local names=(libtensorflow_cc.so.2 libtensorflow_framework.so.2 THIRD_PARTY_NOTICES.txt)
	rm -rf "$to" "$to.new"
	mkdir -p "$to.new/tensorflow"
	if [[ $(uname -sm) == "Linux $machine" ]]; then
		say "TensorFlow's library for $1, stripped"
		strip=strip
		for name in "${names[@]}"; do cp "$tools/tensorflow/$name" "$to.new/tensorflow"; done
	else
		say "TensorFlow's library for $1, stripped (280 MB to fetch)"
		need_strip "$strip" "$machine"
		fetched=$to.new quietly "library-$1" "$python" -m pip --disable-pip-version-check download --no-deps --only-binary :all: \
			--platform "manylinux_2_27_$machine" --dest "$to.new" "$package==$(sed -n 's/^tensorflow-cpu==\([^;]*\).*/\1/p' testenv/requirements.txt)"
		"$python" -c 'import sys, zipfile
for name in sys.argv[3:]: zipfile.ZipFile(sys.argv[1]).extract("tensorflow/" + name, sys.argv[2])' \
			"$to.new"/*.whl "$to.new" "${names[@]}"
	fi
	"$strip" --strip-unneeded "$to.new"/tensorflow/*.so.2
	mv "$to.new/tensorflow" "$to"
	rm -r "$to.new"
}
make_library_amd64() { bring_library amd64 x86_64 tensorflow-cpu; }
make_library_arm64() { bring_library arm64 aarch64 tensorflow; }

installs_packages() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# need_strip COMMAND MACHINE brings the strip of another processor.
need_strip() {
	local package=binutils-${2//_/-}-linux-gnu
	if command -v "$1" >/dev/null; then return; fi
	installs_packages || die "$1 is missing: apt-get install $package"
	quietly strip sh -c "apt-get update && apt-get install --yes --no-install-recommends $package"
}

# The files that an arm64 program loads, in a folder of their own: from Debian, by a configuration of
# apt that knows only that processor. Ubuntu has its packages elsewhere. qemu-user-static runs such a
# program on this one.
make_arm64() {
	installs_packages && grep -qx ID=debian /etc/os-release ||
		die "tests for arm64 need root on Debian, whose packages have qemu-user-static and the C library"
	say "qemu and the C library for arm64 (20 MB to fetch)"
	rm -rf "$tools/arm64" "$tools/arm64.new"
	mkdir -p "$tools/arm64.new"/{apt/lists/partial,apt/archives/partial,debs,root/usr/lib}
	ln -s usr/lib "$tools/arm64.new/root/lib" # Debian 13 has the files in usr/lib only
	quietly arm64 sh -ec '
		apt-get update && apt-get install --yes --no-install-recommends qemu-user-static
		touch "$1/apt/status"
		own="-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State=$1/apt -o Dir::State::status=$1/apt/status -o Dir::Cache=$1/apt"
		cd "$1/debs" && apt-get $own update && apt-get $own download libc6 libgcc-s1 libstdc++6
		for deb in *.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C ../root; done' sh "$tools/arm64.new"
	mv "$tools/arm64.new/root" "$tools/arm64"
	rm -r "$tools/arm64.new"
}

make_zig() {
	say "zig, a C compiler for other processors and older systems (90 MB to fetch)"
	rm -rf "$tools/zig"
	quietly zig "$python" -m pip --disable-pip-version-check install --no-compile --no-deps --target "$tools/zig" "$zig"
}

make_packers() {
	say "goreleaser and cyclonedx-gomod (built here, some minutes)"
	GOBIN=$tools/bin quietly packers go install "$goreleaser"
	GOBIN=$tools/bin quietly packers go install "$cyclonedx"
}

make_photos() {
	say "sample photos from scikit-image, scikit-learn and matplotlib (33 MB to fetch)"
	rm -rf "$tools/photos" "$tools/photos.new" "$tools/originals"
	"$python" testenv/photos.py "$tools/photos.new" "$tools/originals" || die "photos could not be brought, see above"
	mv "$tools/photos.new" "$tools/photos"
}

need_npm() { need npm "apt-get install npm, or brew install node"; }

make_model() {
	need_npm
	say "Inception's weights (24 MB to fetch) and their export to $model"
	rm -rf "$tools/model.new"
	# npm's own cache is in a place of its own, so that what is fetched can be counted.
	npm_config_cache=$tools/npm fetched=$tools/npm quietly model \
		"$python" savedmodel/inception/export.py --weights moderation --cache "$tools/weights" --out "$tools/model.new" --version 1
	rm -rf "$model" "$tools/npm"
	mv "$tools/model.new/1" "$model"
	rmdir "$tools/model.new"
}

make_things() {
	say "EfficientNet-lite0's weights and names (18 MB to fetch) and their conversion to .tools/efficientnet"
	rm -rf "$tools/efficientnet.new"
	fetched=$tools/weights quietly things "$python" -B savedmodel/efficientnet/convert.py --cache "$tools/weights" --out "$tools/efficientnet.new" --version 1
	rm -rf "$tools/efficientnet"
	mv "$tools/efficientnet.new" "$tools/efficientnet"
}

make_imagenet() {
	say "Inception's weights for ImageNet (96 MB to fetch from storage.googleapis.com, which needs internet) and their export to .tools/inception-imagenet"
	rm -rf "$tools/inception-imagenet.new"
	(KERAS_HOME=$tools/keras fetched=$tools/keras quietly imagenet \
		"$python" -B savedmodel/inception/export.py --weights imagenet --out "$tools/inception-imagenet.new" --version 1) ||
		die "no weights for ImageNet, see above; without internet, make demo MODEL=things names objects too"
	rm -rf "$tools/inception-imagenet"
	mv "$tools/inception-imagenet.new" "$tools/inception-imagenet"
}

# need_java stops without Maven and a Java that runs the broker.
need_java() {
	local java
	need java "version 17 or newer, apt-get install default-jre-headless, or brew install openjdk"
	need mvn "apt-get install maven, or brew install maven"
	java=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/.*java.specification.version = //p') || true
	[[ ${java%%.*} =~ ^[0-9]+$ && ${java%%.*} -ge 17 ]] || die "java is version ${java:-unknown}, 17 or newer is needed: apt-get install openjdk-17-jre-headless"
}

make_kafka() {
	need_java
	say "a Kafka broker for the tests (46 MB to fetch)"
	rm -rf "$tools/kafka" "$tools/kafka.new"
	quietly kafka mvn --batch-mode --quiet -f testenv/pom.xml dependency:copy-dependencies -DoutputDirectory="$tools/kafka.new/lib"
	mv "$tools/kafka.new" "$tools/kafka"
	quietly classes go run ./testenv/classes "$tools/kafka/lib"
}

make_reference() {
	say "Python TensorFlow's answers to the photos"
	rm -rf "$tools/reference"
	quietly reference "$python" testenv/reference.py --model "$model" --photos "$tools/photos" --out "$tools/reference"
}

make_preprocessing() {
	say "what Python TensorFlow and Keras make of pictures"
	quietly preprocessing "$python" -B testenv/preprocessing.py --out "$tools/preprocessing"
}

make_zoo() {
	say "a zoo of models as people have them, with Python TensorFlow's answers (some minutes, 280 MB)"
	rm -rf "$tools/zoo.new"
	quietly zoo "$python" -B testenv/zoo --photos "$tools/photos" --out "$tools/zoo.new"
	rm -rf "$tools/zoo"
	mv "$tools/zoo.new" "$tools/zoo"
}

make_readers() {
	say "what reads the answers in docs/reading.md: DuckDB, librdkafka (25 MB to fetch)"
	rm -rf "$tools/readers"
	quietly readers "$python" -m pip --disable-pip-version-check install --no-compile --no-deps --target "$tools/readers" -r testenv/readers.txt
}

make_rivals() {
	say "what inceptor is compared with"
	rm -rf "$tools/rivals"
	quietly rivals "$python" -m pip --disable-pip-version-check install --no-compile --no-deps --target "$tools/rivals" -r bench/services/requirements.txt
}

make_onnx() {
	say "the model for onnxruntime"
	rm -rf "$tools/onnx"
	mkdir "$tools/onnx"
	quietly onnx env PYTHONPATH="$tools/rivals" "$python" -B bench/outside.py convert --model "$model" --photo "$tools/photos/rocket.jpg" \
		--out "$tools/onnx/inception.onnx"
}

make_calibration() {
	local photo
	rm -rf "$tools/calibration" "$tools/calibration.new"
	mkdir "$tools/calibration.new"
	for photo in "$tools"/originals/*; do
		case ${photo##*/} in
		china.jpg | flower.jpg | rocket.jpg) ;; # what the benchmarks send
		*) cp "$photo" "$tools/calibration.new" ;;
		esac
	done
	mv "$tools/calibration.new" "$tools/calibration"
}

make_onnx_int8() {
	say "the same in int8"
	quietly onnx-int8 env PYTHONPATH="$tools/rivals" "$python" -B bench/outside.py quantize --model "$tools/onnx/inception.onnx" \
		--photo "$tools/photos/rocket.jpg" --images "$tools/calibration" --out "$tools/onnx/inception-int8.onnx"
}

need_javac() { need javac "apt-get install default-jdk-headless, or brew install openjdk"; }

make_streams() {
	need_javac
	say "Kafka Streams with TensorFlow Java (190 MB to fetch)"
	rm -rf "$tools/streams" "$tools/streams.new"
	quietly streams mvn --batch-mode --quiet -f bench/services/streams/pom.xml compiler:compile dependency:copy-dependencies \
		-Dout="$tools/streams.new" -DoutputDirectory="$tools/streams.new/lib"
	mv "$tools/streams.new" "$tools/streams"
}

# find_browser prints the path of a Chromium.
find_browser() {
	command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable ||
		ls "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" 2>/dev/null
}

need_browser() {
	find_browser >/dev/null || installs_packages ||
		die "a browser is missing: apt-get install chromium, or brew install --cask google-chrome"
}

make_browser() {
	need_browser
	if ! find_browser >/dev/null; then
		say "Chromium for the tests of the page (100 MB to fetch)"
		quietly browser sh -c 'apt-get update && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core'
	fi
	rm -f "$tools/browser"
	ln -s "$(find_browser)" "$tools/browser"
}

# debian_promtool takes it out of Debian's package, which does not take root.
debian_promtool() {
	cd "$tools/promtool.new" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } &&
		dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && mv usr/bin/promtool "$tools/bin/promtool"
}

make_promtool() {
	say "promtool for the alert rules"
	rm -rf "$tools/promtool.new"
	mkdir -p "$tools/promtool.new" "$tools/bin"
	if command -v promtool >/dev/null; then
		ln -sfn "$(command -v promtool)" "$tools/bin/promtool"
	elif ! (debian_promtool) >"$tools/log/promtool.txt" 2>&1; then
		say "promtool is built here (some minutes, for it holds all of Prometheus)"
		GOBIN=$tools/bin quietly promtool go install -tags remove_all_sd "$promtool"
	fi
	rm -rf "$tools/promtool.new"
}

make_lint() {
	need go "version 1.26 or newer"
	say "golangci-lint (built here, some minutes)"
	GOBIN=$tools/bin go install "$golangci" || die "golangci-lint was not built, see above"
}

for_any_demo() {
	[[ -x $python ]] || rm -f "$tools/stamps/venv" # its Python was upgraded or removed
	step venv "$tools/tensorflow/include" testenv/requirements.txt
	step photos "$tools/photos/china.jpg" testenv/photos.py
}

# What a step needs is looked for before the downloads of those before it.
first() { [[ -e $1 ]] || "$2"; }

for_demo() {
	first "$model/saved_model.pb" need_npm
	for_any_demo
	step model "$model/saved_model.pb" savedmodel/inception/{export,tfjs}.py testenv/requirements.txt
}

for_things() {
	for_any_demo
	step things "$tools/efficientnet/1/saved_model.pb" savedmodel/efficientnet/{convert,torchfile}.py savedmodel/inception/export.py testenv/requirements.txt
}

for_imagenet() {
	for_any_demo
	step imagenet "$tools/inception-imagenet/1/saved_model.pb" savedmodel/inception/export.py testenv/requirements.txt
}

for_test() {
	first "$tools/kafka/classes.jsa" need_java
	first "$tools/browser" need_browser
	for_demo
	for_things
	# The archive of the broker's classes is for one version of Java.
	step kafka "$tools/kafka/classes.jsa" testenv/pom.xml "$(java -version 2>&1)"
	step reference "$tools/reference/answers.json" testenv/reference.py testenv/photos.py savedmodel/inception/{export,tfjs}.py testenv/requirements.txt
	step preprocessing "$tools/preprocessing/cases.json" testenv/preprocessing.py testenv/requirements.txt
	quietly jsonschema go -C testenv/jsonschema mod download
	step readers "$tools/readers/duckdb" testenv/readers.txt
	step browser "$tools/browser" browser
	quietly chromedp go -C testenv/browser mod download
	step promtool "$tools/bin/promtool" "$promtool"
	quietly monitoring go -C testenv/monitoring mod download
	quietly deploy go -C testenv/deploy mod download
	quietly schemas go mod download $(<testenv/deploy/schemas.txt)
	step zoo "$tools/zoo/photos" testenv/zoo/*.py testenv/photos.py testenv/requirements.txt
}

# need_bare brings what deploy/release/test.sh makes a bare system with.
need_bare() {
	[[ $(id -u) == 0 ]] || die "only root can run a bare system, on which the release is tried"
	if command -v debootstrap && command -v rpm && command -v systemd-nspawn; then return; fi >/dev/null
	installs_packages || die "debootstrap, rpm or systemd-nspawn is missing: on Debian, apt-get install debootstrap rpm systemd-container"
	quietly bare sh -c 'apt-get update && apt-get install --yes --no-install-recommends debootstrap rpm systemd-container'
}

for_nightly() {
	for_test
	step rivals "$tools/rivals/confluent_kafka" bench/services/requirements.txt testenv/requirements.txt
}

for_amd64() {
	for_things
	step library_amd64 "$tools/libraries/amd64" testenv/requirements.txt
}

for_release() {
	for_amd64
	step library_arm64 "$tools/libraries/arm64" testenv/requirements.txt
	step zig "$tools/zig/ziglang" "$zig"
	step packers "$tools/bin/cyclonedx-gomod" "$goreleaser" "$cyclonedx" "$(go env GOVERSION)"
}

for_arm64() {
	for_test
	for_release
	step arm64 "$tools/arm64/lib/aarch64-linux-gnu/libc.so.6" arm64
}

for_bench() {
	first "$tools/streams/classes" need_javac
	for_nightly
	step onnx "$tools/onnx/inception.onnx" bench/outside.py bench/services/requirements.txt savedmodel/inception/{export,tfjs}.py testenv/requirements.txt
	step calibration "$tools/calibration/coffee.png" testenv/photos.py
	step onnx_int8 "$tools/onnx/inception-int8.onnx" "$tools/stamps/onnx" "$tools/stamps/calibration"
	step streams "$tools/streams/classes" bench/services/streams/{pom.xml,Service.java,Model.java}
}

for_lint() { step lint "$tools/bin/golangci-lint" "$golangci" "$(go env GOVERSION)"; }

need go "version 1.26 or newer, from your packages or the Go project"
command -v "$(go env CC)" >/dev/null || die "a C compiler ($(go env CC)) is missing: apt-get install gcc libc6-dev, or xcode-select --install"
mkdir -p "$tools/stamps" "$tools/log"
# Two set-ups of the same things at once would undo each other's work.
if command -v flock >/dev/null; then
	exec 9>"$tools/lock-$([[ ${1-} == lint ]] && echo lint || echo tools)"
	flock --nonblock 9 || { say "another set-up runs here, waiting for it"; flock 9; }
fi
case ${1:-all} in
demo) for_demo ;;
things) for_things ;;
imagenet) for_imagenet ;;
test) for_test ;;
nightly) need_bare; for_nightly ;;
amd64) for_amd64 ;;
arm64) for_arm64 ;;
release) for_release ;;
bench) for_bench ;;
lint) for_lint ;;
all) for_test; testenv/setup.sh lint ;; # && would turn -e off in for_test
*) die "$1: demo, things, imagenet, test, nightly, amd64, arm64, release, bench, lint or nothing for all" ;;
esac
