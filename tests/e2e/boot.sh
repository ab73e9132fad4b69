# boot.sh DISK: boots the systemd of this machine, in the network and among the mounts that it is started
# in, with all else of its own. Its files are this machine's; what it changes goes to DISK, and is there at the next boot.
set -eu
disk=$1
# A group of its own, so that it manages no process of this machine.
mount --make-rprivate /
mount -t cgroup2 cgroup2 "$disk/root"
group="$disk/root/crossfade-test-$$"
mkdir "$group"
# shellcheck disable=SC2016 # for the inner shells
sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$group" \
    unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh -c '
set -eu
umount "$1/root"
cd "$1"
mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" overlay root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir -p dev/pts dev/shm old
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
[ -e booted ] || {
    # No service of this machine, and no device: what a test brings is all there is.
    rm -rf etc/systemd/system/*.wants usr/lib/systemd/system/multi-user.target.wants
    ln -sf /dev/null etc/systemd/system/systemd-udevd.service
    ln -sf /dev/null etc/systemd/system/systemd-udevd-kernel.socket
    ln -sf /dev/null etc/systemd/system/systemd-udevd-control.socket
    ln -sf /dev/null etc/systemd/system/systemd-udev-trigger.service
    rm -f etc/resolv.conf usr/sbin/policy-rc.d
    printf "# by hand\nnameserver 10.30.0.2\noptions timeout:1\n" >etc/resolv.conf
    printf "127.0.0.1 localhost\n" >etc/hosts
    printf "vm-1\n" >etc/hostname
    printf "%032x\n" 1 >etc/machine-id
    : >booted
}
pivot_root . old
umount -l old
exec env -i container=crossfade PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=journal --show-status=no --unit=multi-user.target
' sh "$disk" || true
find "$group" -depth -type d -exec rmdir {} \;
