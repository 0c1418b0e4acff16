#!/bin/sh
# The service in a Space. Its log is on the Space's own storage if that was bought (/data); otherwise it
# ends with the machine.
folder=${TMPDIR:-/tmp}
if [ -w /data ]; then folder=/data; fi
export HEART_LOG_URL="${HEART_LOG_URL:-sqlite:///$folder/predictions.db}"
# Only Hugging Face decides where a name below hf.space leads, and only its proxy reaches the service.
export HEART_ALLOWED_HOSTS="${HEART_ALLOWED_HOSTS:-*.hf.space}" FORWARDED_ALLOW_IPS="*"
exec python -m serve
