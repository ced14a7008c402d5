#!/bin/sh
# Generates the *.pb.go of this folder from its *.proto. It installs pinned tools
# once into .tools/tfpb at the repository's root, which git ignores; protoc is in
# the Python package grpcio-tools. It needs python3 with venv, Go, and their
# package registries.
set -eu

protoc_package=grpcio-tools==1.85.1
protoc_gen_go=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12

cd "$(dirname "$0")/../.."
tools=$PWD/.tools/tfpb
stamp="$tools/$protoc_package"

if [ ! -e "$stamp" ]; then
	python3 -m venv "$tools/venv"
	"$tools/venv/bin/pip" install --quiet "$protoc_package"
	touch "$stamp"
fi
GOBIN=$tools go install "$protoc_gen_go"

PATH=$tools:$PATH "$tools/venv/bin/python" -m grpc_tools.protoc \
	-I. --go_out=. --go_opt=paths=source_relative savedmodel/tfpb/*.proto
