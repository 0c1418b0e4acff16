#!/bin/sh
# Two databases, each with a user that owns it and no other. Run once, in an empty cluster.
set -eu
make() { # NAME PASSWORD
  psql --set=ON_ERROR_STOP=1 --quiet --username=postgres --dbname=postgres \
    --set=name="$1" --set=password="$2" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}
make heart "$LOG_DB_PASSWORD"
make mlflow "$MLFLOW_DB_PASSWORD"
