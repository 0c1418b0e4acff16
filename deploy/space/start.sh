#!/bin/sh
# The service in a Space. Its log is on the Space's own storage if that was bought (/data); otherwise it
# ends with the machine.
folder=${TMPDIR:-/tmp}
if [ -w /data ]; then folder=/data; fi
export HEART_LOG_URL="${HEART_LOG_URL:-sqlite:///$folder/predictions.db}"
exec python -m serve
