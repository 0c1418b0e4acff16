#!/bin/sh
# Run a command in a clone of its own of the operator's checkout, mounted at /repository.git, with the
# bucket in DVC_REMOTE_URL as DVC's remote. The clone is made once and then follows the checkout.
set -eu
mkdir -p project
cd project
if [ ! -d .git ]; then
  git clone --quiet /repository.git .
elif ! git pull --quiet --ff-only; then
  echo "The clone stays at $(git describe --always --dirty): what was changed in it stands in the way." >&2
fi
dvc remote add --quiet --local --force --default stack "$DVC_REMOTE_URL"
exec "$@"
