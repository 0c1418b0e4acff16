#!/usr/bin/env bash
# Where no image can be pulled: Debian's SUITE with its Python where the official images of Python have it,
# as IMAGE. Needs root and debootstrap. What this machine trusts, the image trusts.
set -euo pipefail
image=$1 suite=$2
root=$(mktemp -d)
trap 'rm -rf "$root" "$root.log"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
  "$suite" "$root" http://deb.debian.org/debian /usr/share/debootstrap/scripts/sid > "$root.log" \
  || { tail "$root.log"; exit 1; }
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
ln -s /usr/bin/python3 "$root/usr/local/bin/python"
ln -s /usr/bin/python3 "$root/usr/local/bin/python3"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
tar -C "$root" -c . | docker import --change 'CMD ["python3"]' \
  --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' - "$image"
