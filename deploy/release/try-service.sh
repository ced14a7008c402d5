#!/bin/bash
# What test.sh runs in a system with systemd: the installed service answers the demo's photos, takes
# a new version, is confined as the unit says, comes back after a crash and an upgrade, stays down
# after a mistake, and stops cleanly. /release has the deb. The last line is "passed".
set -euo pipefail
trap 'systemctl poweroff --no-block' EXIT

# await COMMAND... waits until it succeeds.
await() {
	for _ in {1..180}; do
		if "$@"; then return; fi
		sleep 1
	done
	journalctl --no-pager --unit inceptor | tail -n 40
	echo "never: $*"
	exit 1
}

die() { echo "$*"; exit 1; }

# metrics NAME VALUE tells whether lines that begin with the name end with the value.
metrics() {
	{ exec 3<>/dev/tcp/127.0.0.1/8080; } 2>/dev/null || return
	printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
	cat <&3 >/root/metrics.txt
	exec 3>&-
	grep "^$1" /root/metrics.txt | grep -q " $2\$"
}

# is PROPERTY VALUE compares what systemd knows of the service.
is() { [[ $(systemctl show inceptor --property "$1" --value) == "$2" ]]; }

# restarted tells whether another process than $process serves.
restarted() {
	is ActiveState active && ! is MainPID "$process" && metrics inceptor_model_serving_version 2
}

touch /root/demo.txt
inceptor demo --kafka.group demo --http.listen "" >/root/demo.txt 2>&1 &
await grep -q '^Ctrl-C ends the demo' /root/demo.txt
systemctl start inceptor
await metrics 'inceptor_records_total{.*outcome="answered"' 9

process=$(systemctl show inceptor --property MainPID --value)
awk '{ print $1, $2 }' "/proc/$process/status" >/root/status.txt
for line in 'CapEff: 0000000000800000' 'CapBnd: 0000000000800000' 'NoNewPrivs: 1' 'Seccomp: 2'; do
	grep -x "$line" /root/status.txt || die "not $line"
done
if grep '^Uid: 0$' /root/status.txt; then die "the service runs as root"; fi
ls -l /var/lib/private/inceptor

# To leave the lowest scheduling class takes CAP_SYS_NICE: without it there is a warning.
models=/usr/lib/inceptor/share/inceptor/efficientnet
cp -R "$models/1" "$models/.2"
mv "$models/.2" "$models/2"
await metrics inceptor_model_serving_version 2
inceptor models --config /etc/inceptor/inceptor.yaml
if journalctl --unit inceptor --grep '"level":"(WARN|ERROR)"'; then die "the log has warnings"; fi

kill -SEGV "$process"
await restarted
process=$(systemctl show inceptor --property MainPID --value)
dpkg --install --force-confold /release/*_amd64.deb
await restarted
systemctl stop inceptor
is Result success && is ExecMainStatus 0 || die "the service did not stop cleanly"

cp /etc/inceptor/inceptor.yaml /root
echo 'mistake: 1' >>/etc/inceptor/inceptor.yaml
systemctl start inceptor || true
await is ActiveState failed
is ExecMainStatus 2 && is NRestarts 0 || die "a mistake in the configuration restarts the service"
cp /root/inceptor.yaml /etc/inceptor

systemctl reset-failed inceptor
systemctl enable --now inceptor
dpkg --remove inceptor
is ActiveState inactive || die "the removed service runs"
echo passed
