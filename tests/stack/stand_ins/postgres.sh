#!/bin/sh
# As the image postgres:18 does: make a cluster where there is none, run the scripts for an empty one, serve.
set -eu
export PATH=/usr/lib/postgresql/18/bin:$PATH PGDATA=/var/lib/postgresql/18/docker
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /run/postgresql
  chown -R postgres /var/lib/postgresql /run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=$(mktemp)
  echo "$POSTGRES_PASSWORD" > "$password"
  # shellcheck disable=SC2086
  initdb --username=postgres --pwfile="$password" $POSTGRES_INITDB_ARGS
  rm "$password"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl start --wait -o "-c listen_addresses=''"
  for script in /docker-entrypoint-initdb.d/*.sh; do "$script"; done
  pg_ctl stop --wait --mode=fast
fi
exec postgres -c listen_addresses='*'
