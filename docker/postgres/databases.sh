#!/bin/sh
# Makes a user for each server, with databases that no other user may enter.
#
# The image of PostgreSQL runs this once, on an empty volume. Run again, it makes what is missing and gives every user the
# password that its secret holds now; data stays as it is:
#   docker compose exec postgres /docker-entrypoint-initdb.d/databases.sh
set -eu

secrets=${SECRETS:-/run/secrets}
admin=${POSTGRES_USER:-postgres}

run() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$admin" --dbname postgres "$@"
}

# make_user USER DATABASE...: the password never is an argument, and a statement that fails is not logged with it.
make_user() {
    user=$1
    shift
    PASSWORD=$(cat "$secrets/${user}_db_password")
    if [ -z "$PASSWORD" ]; then
        echo "The secret ${user}_db_password is empty; the user $user was not made." >&2
        exit 78
    fi
    export PASSWORD
    run --set user="$user" <<'SQL'
SET log_min_error_statement = panic;
SET log_statement = none;
\getenv password PASSWORD
SELECT format('CREATE ROLE %I', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \gexec
ALTER ROLE :"user" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
SQL
    unset PASSWORD
    for database; do
        run --set user="$user" --set database="$database" <<'SQL'
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8''', :'database', :'user')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
    done
}

make_user uniroute uniroute
make_user mlflow mlflow mlflow_auth
make_user prefect prefect
run --command 'REVOKE ALL ON DATABASE postgres FROM PUBLIC' --command 'REVOKE ALL ON DATABASE template1 FROM PUBLIC'
