#!/bin/sh
# Before removal, but not before an upgrade: deb says "remove", rpm 0. What
# fails here does not keep the package.
if [ -d /run/systemd/system ]; then
	case $1 in remove | 0) systemctl disable --now inceptor.service || true ;; esac
fi
