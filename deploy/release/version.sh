#!/bin/sh
# Prints the version of this checkout as semver, and as deb and rpm sort it: the tag's, such as
# 1.2.3, or that of a build on the way to the next, such as 1.2.4-dev.5.gabc123456789. A shallow clone
# does not know how far that is, and prints 0.0.0-shallow.gabc123456789.
set -eu
cd "$(dirname "$0")/../.."
dirty=$(git status --porcelain --untracked-files=no 2>/dev/null) || { echo 0.0.0-unknown; exit; }
tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null) || tag=
if [ -n "$tag" ] && [ -z "$dirty" ]; then
	echo "${tag#v}"
	exit
fi
commit=g$(git rev-parse --short=12 HEAD)${dirty:+.dirty}
if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
	echo "0.0.0-shallow.$commit"
	exit
fi
tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' --exclude '*-*' 2>/dev/null) || tag=
last=${tag#v}
last=${last:-0.0.0}
echo "${last%.*}.$((${last##*.} + 1))-dev.$(git rev-list --count ${tag:+"$tag.."}HEAD).$commit"
