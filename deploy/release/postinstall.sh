#!/bin/sh
# After installation and after an upgrade. The service is not started: it needs brokers first.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart inceptor.service # runs the new version where the old one ran
fi
