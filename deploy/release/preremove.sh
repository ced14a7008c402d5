#!/bin/sh
# Before removal, but not before an upgrade: deb says "remove", rpm 0.
set -e
if [ -d /run/systemd/system ]; then
	case $1 in remove | 0) systemctl disable --now inceptor.service ;; esac
fi
