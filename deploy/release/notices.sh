#!/usr/bin/env bash
# Prints the licences of Go and of the Go modules in the program:
#
#   deploy/release/notices.sh ARCH
set -euo pipefail
export LC_ALL=C GOOS=linux GOARCH=$1 CGO_ENABLED=1
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

printf 'Go %s\n\n' "$(go env GOVERSION)"
# A distribution's Go may lack the file. The same text is in the modules of Go's authors.
cat "$(go list -m -f '{{.Dir}}' golang.org/x/sync)/LICENSE"

# A package may have a licence of its own, in its folder or in one between it and the module's.
format='{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}} {{$.Dir}}{{end}}{{end}}'
go list -deps -f "$format" ./cmd/inceptor | while read -r module version root folder; do
	until [[ $folder == "$root" ]]; do
		echo "$module $version $root $folder"
		folder=${folder%/*}
	done
	echo "$module $version $root $root"
done | sort -u | while read -r module version root folder; do
	files=$(find "$folder" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \) | sort)
	if [[ -z $files ]]; then
		[[ $folder != "$root" ]] || { echo "notices: $module $version has no licence in $root" >&2; exit 1; }
		continue
	fi
	printf '\n%s\n%s %s\n\n' "$(printf '=%.0s' {1..80})" "$module${folder#"$root"}" "$version"
	while read -r file; do cat "$file"; echo; done <<<"$files"
done
