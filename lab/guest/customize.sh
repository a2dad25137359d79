#!/bin/sh
# mmdebstrap's customize hook: makes the tree a guest that knows VMware's hardware only, so that conversion is necessary.
# usage: customize.sh ROOT; HERE (this folder), ROOT_UUID and DATA_UUID come by environment
set -eu
root=$1

install -m755 "$HERE/sequence_writer.pl" "$root/usr/local/sbin/sequence_writer"
install -m644 "$HERE/sequence_writer.service" "$root/etc/systemd/system/sequence_writer.service"
mkdir -p "$root/srv/data"
cat > "$root/etc/fstab" <<END
UUID=$ROOT_UUID / ext4 errors=remount-ro 0 1
UUID=$DATA_UUID /srv/data ext4 nofail,x-systemd.device-timeout=120s 0 2
END
echo guest > "$root/etc/hostname"
echo '127.0.0.1 localhost guest' > "$root/etc/hosts"
printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' > "$root/etc/systemd/network/10-ether.network"

# No virtio in the initramfs: as a guest is that was installed on ESXi.
sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
printf 'vmw_pvscsi\nsd_mod\nvmxnet3\next4\n' > "$root/etc/initramfs-tools/modules"

chroot "$root" systemctl -q enable sequence_writer.service systemd-networkd.service
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    fstrim.timer e2scrub_reap.service systemd-networkd-wait-online.service serial-getty@ttyS0.service

mkdir -p "$root/boot/grub/i386-pc" "$root/etc/default"
cat > "$root/etc/default/grub" <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=ttyS0 mitigations=off"
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0"
END
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
kernel=$(cd "$root/boot" && ls vmlinuz-* | sed s/vmlinuz-//)
chroot "$root" update-initramfs -u -k "$kernel"
cat > "$root/boot/grub/grub.cfg" <<END
set default=0
set timeout=0
serial --unit=0
terminal_output serial
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux {
	insmod part_msdos
	insmod ext2
	search --no-floppy --fs-uuid --set=root $ROOT_UUID
	linux	/boot/vmlinuz-$kernel root=UUID=$ROOT_UUID ro console=ttyS0 mitigations=off
	initrd	/boot/initrd.img-$kernel
}
END
