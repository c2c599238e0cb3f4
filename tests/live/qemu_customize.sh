# Run by mmdebstrap with the new root as $1 (see qemu.py). Everything that costs boot time and serves no test is off;
# the engines start when a script asks.
set -eu
cd "$1"
rm -rf etc/apt/apt.conf.d/99mmdebstrap var/cache/apt/*.bin var/lib/apt/lists/*   # the builder's proxies stay with it
in_guest() { chroot "$1" sh -euc "$2"; }

in_guest . '
useradd --create-home --uid 1000 --shell /bin/bash user
grep -q ^user: /etc/subuid || usermod --add-subuids 100000-165535 --add-subgids 100000-165535 user
rm -rf /etc/systemd/system/*.wants /etc/systemd/user/*.wants   # whatever Debian starts by default
systemctl set-default --quiet multi-user.target
# No generators (no fstab, no swap, no gettys) and no coldplug: nothing here needs them, and they cost 9 s of the boot.
mkdir -p /etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/*; do
    ln -s /dev/null "/etc/systemd/system-generators/${generator##*/}"
done
systemctl mask --quiet systemd-udev-trigger.service serial-getty@ttyS0.service getty.target systemd-timesyncd.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service \
    systemd-tmpfiles-clean.timer sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount \
    modprobe@drm.service modprobe@dm_mod.service modprobe@configfs.service sys-kernel-config.mount \
    systemd-sysusers.service systemd-binfmt.service systemd-journal-flush.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-initctl.socket
'
mkdir -p var/lib/systemd/linger etc/docker etc/containers opt/nsinspect etc/systemd/system.conf.d
touch var/lib/systemd/linger/user
echo nsinspect-guest >etc/hostname
printf '127.0.0.1 localhost nsinspect-guest\n' >etc/hosts
printf '[Manager]\nDefaultTimeoutStartSec=300\n' >etc/systemd/system.conf.d/slow.conf
echo '{"iptables": false, "bridge": "none", "exec-opts": ["native.cgroupdriver=systemd"]}' >etc/docker/daemon.json
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >etc/containers/policy.json

cat >etc/containers/storage.conf <<'END'
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END

# What `docker import`, `podman import`, LXC, nspawn and runc take as a root file system.
mkdir -p opt/rootfs/bin opt/rootfs/etc
(cd opt/rootfs && mkdir proc sys dev run var usr root tmp home)
cp bin/busybox opt/rootfs/bin/
for tool in sh sleep ls ps cat mkdir id top yes dd echo grep head kill mount nproc stat tail touch true unshare; do
    ln -s busybox "opt/rootfs/bin/$tool"
done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n' >opt/rootfs/etc/passwd
printf 'root:x:0:\nuser:x:1000:\n' >opt/rootfs/etc/group
tar -C opt/rootfs -cf opt/rootfs.tar .

cat >usr/local/bin/start-docker <<'END'
#!/bin/sh
# docker.service is Type=notify: this returns when the socket answers.
exec systemctl start docker.service
END
cat >usr/local/bin/as-user <<'END'
#!/bin/sh
# as-user COMMAND...: runs it as uid 1000 with the session that lingering gave it, which may still be on its way up.
systemctl start user@1000.service
cd /home/user
exec runuser -u user -- env HOME=/home/user XDG_RUNTIME_DIR=/run/user/1000 \
    DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus "$@"
END
cat >usr/local/sbin/nsinspect-live <<'END'
#!/bin/bash
read -r up _ </proc/uptime
tar -xf /dev/vdb -C /
read -r mark </run/nsinspect-live/mark
# Through a pipe, so that a script may reopen /dev/stdout; a virtio port can be opened once only.
exec 3> >(exec cat >/dev/vport*p1) 4> >(exec cat >/dev/vport*p2)
bash /run/nsinspect-live/script </dev/null >&3 2>&4 3>&- 4>&-
status=$?
printf '%s %s %s\n' "$mark" "$status" "$up" >&3
printf '%s\n' "$mark" >&4
sleep infinity
END
chmod 755 usr/local/bin/* usr/local/sbin/nsinspect-live
cat >etc/systemd/system/nsinspect-live.service <<'END'
[Unit]
After=multi-user.target
[Service]
Type=exec
Environment=HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/usr/local/sbin/nsinspect-live
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
END
in_guest . 'systemctl enable --quiet nsinspect-live.service'
