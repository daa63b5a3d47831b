#!/usr/bin/env bash
# Run a command under a kernel that has kTLS: Debian's, booted in qemu, with / of this machine as its root (what the
# command writes is lost with the virtual machine). Usage: ktls-vm.sh COMMAND [ARGUMENT]...
#
# The output is the command's, and the exit status too (125: the machine did not come up, 124: time was up).
# ACCEL=kvm or ACCEL=tcg instead of trying the one and falling back to the other: there are hosts with a /dev/kvm on which no
# ordinary kernel boots. MEGABYTES=2048 and SECONDS_MOST=900 bound the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
fi
command -v qemu-system-x86_64 >/dev/null || scripts/setup-system.sh ktls
vm=$PWD/build/ktls-vm
marker=ktls-vm-is-up

# The kernel is unpacked, not installed: it must not become the one that this machine boots.
fetch() {
    local kernel
    kernel=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ && !/cloud/ { print $2; exit }')
    rm -rf "$vm"
    mkdir -p "$vm/debs"
    (cd "$vm/debs" && apt-get -q download "$kernel" busybox-static)
    for deb in "$vm"/debs/*.deb; do dpkg -x "$deb" "$vm/root"; done
    rm -r "$vm/debs"
    "$vm/root/bin/busybox" depmod -b "$vm/root" "$(ls "$vm/root/lib/modules")"
    touch "$vm/fetched"
}

# What a module needs, in the order in which it is to be loaded.
closure() {
    awk -v want="/$1.ko" '{ name = $1; sub(":", "", name)
        if (substr(name, length(name) - length(want) + 1) == want) { for (i = NF; i > 1; i--) print $i; print name } }' \
        "$modules/modules.dep"
}

# Brings up the real root and goes there; the rest is done by `inside`.
first() {
    cat <<INIT
#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
for m in $(echo $early); do busybox insmod /m/\${m##*/} 2>/dev/null; done
busybox mount -t tmpfs -o size=75% tmpfs /upper
busybox mkdir /upper/new /upper/work
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /lower || busybox poweroff -f
busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/new,workdir=/upper/work overlay /new || busybox poweroff -f
for f in proc sys dev; do busybox mount -t \${f/dev/devtmps} \$f /new/\$f 2>/dev/null; done
busybox mount -t devtmpfs dev /new/dev
busybox mkdir -p /new/dev/pts /new/dev/shm /new/lib/modules
busybox mount -t devpts pts /new/dev/pts
busybox mount -t tmpfs shm /new/dev/shm
busybox mount -t tmpfs run /new/run
exec busybox chroot /new /bin/bash $vm/inside
INIT
}

# In the virtual machine, with this machine's root.
inside() {
    cat <<INSIDE
exec >/dev/ttyS0 2>&1
bb=$vm/root/bin/busybox
\$bb mount -o bind $vm/root/lib/modules /lib/modules
\$bb stty -F /dev/ttyS0 raw
\$bb ifconfig lo 127.0.0.1 up
\$bb mkdir -p /run/modules
\$bb ln -s \$bb /run/modules/modprobe
echo /run/modules/modprobe >/proc/sys/kernel/modprobe # for the ciphers
\$bb modprobe tls
export $(env | grep -E '^(PATH|HOME|LANG|LC_[A-Z]+|KTLS_[A-Z_]+)=' | while IFS= read -r line; do printf '%q ' "$line"; done)
echo "$marker" >/dev/ttyS1
cd $(printf '%q' "$PWD")
$(printf '%q ' "$@") </dev/null
echo "status \$?" >/dev/ttyS1
sync
\$bb poweroff -f
INSIDE
}

initramfs() {
    local tree=$vm/early m
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,m,proc,sys,dev,lower,upper,new}
    cp "$vm/root/bin/busybox" "$tree/bin/"
    early=$(for m in virtio_pci 9pnet_virtio 9p overlay; do closure $m; done | awk '!seen[$0]++')
    for m in $early; do cp "$modules/$m" "$tree/m/"; done
    first >"$tree/init"
    chmod 755 "$tree/init"
    (cd "$tree" && find . | "$vm/root/bin/busybox" cpio -o -H newc 2>/dev/null) >"$vm/initramfs"
}

# Starts the machine; its answers arrive in $vm/status.
boot() {
    : >"$vm/status"
    timeout "${SECONDS_MOST:-900}" qemu-system-x86_64 "$@" -m "${MEGABYTES:-2048}" -smp "$(nproc)" -nodefaults \
        -display none -no-reboot -kernel "$vm"/root/boot/vmlinuz-* -initrd "$vm/initramfs" \
        -append "console=ttyS1 quiet panic=-1 mitigations=off tsc=reliable no_timer_check rdinit=/init" \
        -virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap" \
        -serial stdio -serial "file:$vm/status" </dev/null &
    qemu=$!
}

up() {
    grep -q $marker "$vm/status"
}

# A host that cannot really do it hangs or dies early.
boot_by_kvm() {
    local tenths
    boot -enable-kvm -cpu host,arch-capabilities=off 2>"$vm/kvm.log"
    for ((tenths = 0; tenths < 150; tenths++)); do
        up && return 0
        kill -0 $qemu 2>/dev/null || return 1
        sleep 0.1
    done
    kill $qemu
    wait $qemu || true
    return 1
}

[ -e "$vm/fetched" ] || fetch
modules=$(echo "$vm"/root/lib/modules/*)
initramfs
inside "$@" >"$vm/inside"
if [ "${ACCEL:-kvm}" = tcg ] || [ ! -w /dev/kvm ] || ! boot_by_kvm; then
    [ "${ACCEL:-tcg}" = tcg ] || { cat "$vm/kvm.log" >&2; exit 125; }
    boot -cpu max
fi
wait $qemu && ended=0 || ended=$?
[ "$ended" != 124 ] || exit 124
status=$(sed -n 's/^status \([0-9]*\).*/\1/p' "$vm/status")
[ -n "$status" ] || { cat "$vm/status" >&2; exit 125; }
exit "$status"
