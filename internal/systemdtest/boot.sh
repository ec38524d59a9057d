# boot ROOT UNITS PROGRAMS DISK BOOT_ID: the machine's file systems, then systemd. The caller has made the namespaces.
root=$1 units=$2 programs=$3 disk=$4 boot_id=$5
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc proc sys dev run tmp var/lib mnt root
mount --rbind /usr usr
for name in bin sbin lib lib64; do
	[ ! -L "/$name" ] || cp -P "/$name" "$name"
done
mount -t tmpfs -o mode=755 tmpfs usr/local
mkdir -p usr/local/bin usr/local/lib/systemd/system
mount --bind "$programs" usr/local/bin
mount --bind "$units" usr/local/lib/systemd/system
# Of the host's units only targets; nothing of the host is to be started or set.
mkdir tmp/targets
cp -P /usr/lib/systemd/system/*.target tmp/targets
cp /usr/lib/systemd/system/systemd-poweroff.service tmp/targets
mount --bind tmp/targets usr/lib/systemd/system
for dir in usr/lib/systemd/system-generators usr/lib/environment.d; do
	[ ! -d "$dir" ] || mount -t tmpfs tmpfs "$dir"
done
printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
printf 'root:x:0:\n' >etc/group
printf '0123456789abcdef0123456789abcdef\n' >etc/machine-id
cp /etc/ld.so.cache etc/
mount -t proc proc proc
mount --bind "$boot_id" proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty fuse; do
	[ ! -e "/dev/$node" ] || { : >"dev/$node" && mount --bind "/dev/$node" "dev/$node"; }
done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount --bind "$disk" var/lib
pivot_root . mnt
umount -l mnt
exec env -i container=systemdtest PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin /usr/lib/systemd/systemd --unit=multi-user.target --log-target=null --show-status=no
