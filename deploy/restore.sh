#!/usr/bin/env bash
# Put what deploy/backup.sh saved in FOLDER in the place of what the stack's databases hold, and the objects
# back into its buckets; then start the stack. The .env must be the one of the backup.
set -euo pipefail
folder=${1:?usage: deploy/restore.sh FOLDER}
case $folder in /*) ;; *) folder=./$folder ;; esac # a name that starts with a dash is no option
read -ra compose <<< "${COMPOSE:-docker compose}"
if [ ! -f "$folder/SHA256SUMS" ]; then
  echo "error: $folder is no backup: make restore BACKUP=FOLDER" >&2
  exit 1
fi
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
"${compose[@]}" up -d postgres s3
"${compose[@]}" stop nginx app retrainer mlflow
ready='PGPASSWORD=$LOG_DB_PASSWORD psql --host=127.0.0.1 --username=heart --command="SELECT 1"'
for _ in {1..60}; do
  "${compose[@]}" exec -T postgres sh -c "$ready" > /dev/null 2>&1 && break
  sleep 1
done
for database in heart mlflow; do
  "${compose[@]}" exec -T postgres pg_restore --username=postgres --dbname="$database" \
    --clean --if-exists --single-transaction < "$folder/$database.dump"
done
"${compose[@]}" up -d mlflow
"${compose[@]}" exec -T mlflow python /opt/heart/buckets.py load < "$folder/buckets.tar"
"${compose[@]}" up -d
