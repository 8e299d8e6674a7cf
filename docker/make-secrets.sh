#!/bin/sh
# Makes the secrets of compose.yaml: random passwords, one file each, in docker/secrets (or the folder that is named).
#
#   docker/make-secrets.sh [FOLDER]               all of them, into a folder that is not there yet
#   docker/make-secrets.sh --missing [FOLDER]     only those that a newer version asks for besides
#
# A secret that is there is never overwritten: databases keep the passwords they were made with.
set -eu
umask 077

missing=no
if [ "${1:-}" = --missing ]; then
    missing=yes
    shift
fi
folder=${1:-$(dirname "$0")/secrets}

# Files are bind mounts with the owner they have here, who is nobody in a container: it reads them because everybody may.
# That the folder is closed keeps everybody else on this machine from them.
if [ "$missing" = no ]; then
    if [ -e "$folder" ]; then
        echo "$folder is there already; nothing was changed." >&2
        echo "For secrets that are missing in it: docker/make-secrets.sh --missing" >&2
        exit 1
    fi
    mkdir -m 700 "$folder"
fi
draft=$(mktemp "$folder/.draft.XXXXXX")
trap 'rm -f "$draft"' EXIT

# secret NAME MODE: what arrives on standard input, unless the secret is there.
secret() {
    if [ -e "$folder/$1" ]; then
        return
    fi
    rm -f "$draft"
    cat >"$draft"
    chmod "$2" "$draft"
    ln "$draft" "$folder/$1"
    echo "made $folder/$1"
}

random() {
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

for name in postgres_password uniroute_db_password mlflow_db_password prefect_db_password \
    mlflow_admin_password mlflow_user_password mlflow_secret_key; do
    random | secret "$name" 444
done
printf 'admin:%s' "$(random)" | secret prefect_auth_string 444
# The key of your LLM endpoint: yours to write, and not read while nights run on the sandbox.
secret endpoint_api_key 644 </dev/null
