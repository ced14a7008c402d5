#!/usr/bin/env bash
# Prints the licences of what Go links into the program:
#
#   deploy/release/notices.sh ARCH
#
# They are those of Go and of each module, and of each folder of a module whose code is another's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export GOOS=linux GOARCH=$1 CGO_ENABLED=1

# folders prints each folder with a package in the program, and those above it in the module.
folders() {
	local name root dir
	go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{"\t"}}{{.Dir}}{{"\t"}}{{$.Dir}}{{end}}{{end}}' ./cmd/inceptor |
		while IFS=$'\t' read -r name root dir; do
			while [[ $dir == "$root"/* ]]; do
				printf '%s%s\t%s\n' "$name" "${dir#"$root"}" "$dir"
				dir=${dir%/*}
			done
			printf '%s\t%s\n' "$name" "$root"
		done | sort -u
}

printf 'Go %s\n\n' "$(go env GOVERSION)"
# A distribution's Go may lack the file. The same text is in the modules of Go's authors.
cat "$(go list -m -f '{{.Dir}}' golang.org/x/sync)/LICENSE"
folders | while IFS=$'\t' read -r name dir; do
	files=$(find "$dir" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \) | sort)
	if [[ ! $files ]]; then
		[[ $name == *\ */* ]] || { echo "notices: $name has no licence in $dir" >&2; exit 1; }
		continue
	fi
	printf '\n%s\n%s\n\n' "$(printf '=%.0s' {1..80})" "$name"
	while read -r file; do cat "$file"; echo; done <<<"$files"
done
