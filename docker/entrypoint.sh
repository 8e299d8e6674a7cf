#!/bin/sh
# Hands every secret that this container was given to the program that needs it, and then becomes that program.
#
# A mounted secret is readable for everybody inside, and libpq, asyncpg and MLflow take passwords from files of their own
# form only. So they are written here, for this user alone and in memory: no password is an argument, part of a URL or in
# the container's configuration, and `docker compose exec` finds the same files as the program.
set -eu
umask 077

secrets=${SECRETS:-/run/secrets}

# The value of a secret, or nothing when this container was not given it. An empty one stops the container.
secret() {
    if [ ! -e "$secrets/$1" ]; then
        return
    fi
    value=$(cat "$secrets/$1")
    if [ -z "$value" ]; then
        echo "The secret $1 is empty; nothing was started. Write it into docker/secrets/$1." >&2
        exit 78
    fi
    printf '%s' "$value"
}

mkdir -p "$HOME/.mlflow"
: >"$PGPASSFILE"
for user in uniroute mlflow prefect; do
    password=$(secret "${user}_db_password")
    case $password in
    '') ;;
    *[:\\[:space:]]*)
        echo "The secret ${user}_db_password has a colon, a backslash or white space in it, which libpq and asyncpg read" \
            "differently from a password file; nothing was started. Choose another one: see docker/README.md." >&2
        exit 78
        ;;
    *) printf '*:*:*:%s:%s\n' "$user" "$password" >>"$PGPASSFILE" ;;
    esac
done

password=$(secret mlflow_user_password)
if [ -n "$password" ]; then
    printf '[mlflow]\nmlflow_tracking_username = uniroute\nmlflow_tracking_password = %s\n' \
        "$(printf '%s' "$password" | sed 's/%/%%/g')" >"$HOME/.mlflow/credentials"
fi

login=$(secret prefect_auth_string)
if [ -n "$login" ]; then
    login=$(printf '%s' "$login" | sed 's/[\\"]/\\&/g')
    printf 'active = "compose"\n[profiles.compose]\nPREFECT_API_AUTH_STRING = "%s"\nPREFECT_SERVER_API_AUTH_STRING = "%s"\n' \
        "$login" "$login" >"$PREFECT_PROFILES_PATH"
fi

# MLflow's server knows these from its environment only.
MLFLOW_AUTH_ADMIN_PASSWORD=$(secret mlflow_admin_password)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret mlflow_secret_key)
if [ -n "$MLFLOW_FLASK_SERVER_SECRET_KEY" ]; then
    export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
fi

exec "$@"
