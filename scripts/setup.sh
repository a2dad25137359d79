#!/bin/sh
# Installs what is missing: the distribution's packages, and the virtual environment in .venv with the command `xms`.
# Safe to run at any time; a second run takes under a second.
set -eu
cd "$(dirname "$0")/.."

PYTHON=/usr/bin/python3
PACKAGES="python3 python3-venv python3-libnbd nbdkit nbdkit-plugin-python libnbd-bin
    qemu-system-x86 qemu-utils qemu-block-extra fuse3 virt-v2v linux-image-cloud-amd64
    mmdebstrap uidmap e2fsprogs fdisk grub-pc-bin util-linux iputils-ping ca-certificates
    golang-go golang-github-vmware-govmomi-dev"

say() { printf '%s\n' "setup: $*" >&2; }

missing_packages() {
    for package in $PACKAGES; do
        [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || printf '%s ' "$package"
    done
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "this system has no apt-get, so nothing is installed here."
    say "Install by hand: Python 3.11 with venv, libnbd's Python binding, nbdkit with its Python plugin, QEMU (x86) with"
    say "qemu-img and qemu-storage-daemon, fuse3, virt-v2v 2.2 or newer (virt-v2v-in-place), mmdebstrap, e2fsprogs, sfdisk,"
    say "grub-mkimage for i386-pc, ping;"
    say "for the tests Go, and govmomi 0.24 below /usr/share/gocode/src."
    exit 1
fi

missing=$(missing_packages)
if [ -n "$missing" ]; then
    AS_ROOT=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { say "these packages are missing, and there is no sudo: $missing"; exit 1; }
        AS_ROOT=sudo
    fi
    say "installing packages: $missing"
    $AS_ROOT env DEBIAN_FRONTEND=noninteractive sh -c "apt-get -q update &&
        apt-get -q install -y --no-install-recommends $missing" >&2
fi

# The distribution's Python, since libnbd's binding is built for it; without the rest of the system's packages.
stamp=.venv/.setup-done
fingerprint=$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$fingerprint" ]; then
    say "making .venv"
    [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    for file in /usr/lib/python3/dist-packages/nbd.py /usr/lib/python3/dist-packages/libnbdmod*.so; do
        ln -sf "$file" "$site/"
    done
    .venv/bin/python -c 'import nbd'
    printf '%s\n' "$fingerprint" > "$stamp"
fi
say "ready: .venv/bin/xms"
