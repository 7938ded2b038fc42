#!/bin/sh
# First process of a guest: prepares the machine, runs /payload.sh, says how it ended, powers off.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin HOME=/root
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /run/netns /dev/pts
mount -t devpts pts /dev/pts
mount -t tracefs trace /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
echo "@guest start $(uname -r)"
. /payload.sh
echo "@guest end"
poweroff -f
