#!/bin/sh
# Makes what is missing in secrets/; what is there stays. The folder is yours alone, the files in it are readable,
# because each container sees only those that it is given, as a user of its own.
set -eu
cd "$(dirname "$0")"

umask 077
mkdir -p secrets

make() {
    [ -s "secrets/$1" ] && return
    cat >"secrets/$1"
    chmod 0444 "secrets/$1"
    echo "made secrets/$1"
}

for name in admin_key secret postgres_password redis_password s3_secret grafana_password; do
    head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' | make "$name"
done
head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' | make encryption_key
make s3_identities.json <<END
{"identities": [{
  "name": "darkroom",
  "credentials": [{"accessKey": "darkroom", "secretKey": "$(cat secrets/s3_secret)"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]
}]}
END
echo "Keep secrets/secret and secrets/encryption_key with your backups: without them keys of callers and of providers are lost."
