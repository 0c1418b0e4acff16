#!/usr/bin/env bash
# Save both databases and both buckets of the running stack into FOLDER, which is there whole or not at all.
# Databases first: what a registered version refers to is in the bucket before it is registered.
set -euo pipefail
folder=${1:?usage: deploy/backup.sh FOLDER}
folder=${folder%/}
case $folder in /*) ;; *) folder=./$folder ;; esac # a name that starts with a dash is no option
read -ra compose <<< "${COMPOSE:-docker compose}"
if [ -e "$folder" ]; then
  echo "error: $folder exists already" >&2
  exit 1
fi
part=$folder.part
trap 'rm -rf "$part"' EXIT
umask 077
rm -rf "$part"
mkdir -p "$part"
for database in heart mlflow; do
  "${compose[@]}" exec -T postgres pg_dump --username=postgres --format=custom "$database" > "$part/$database.dump"
done
"${compose[@]}" exec -T mlflow python /opt/heart/buckets.py save > "$part/buckets.tar"
(cd "$part" && sha256sum ./*.dump buckets.tar > SHA256SUMS)
mv "$part" "$folder"
echo "$folder: $(du -sh "$folder" | cut -f1)"
