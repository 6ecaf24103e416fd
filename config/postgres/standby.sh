#!/bin/sh
# The standby of the profile `fleet` (docker-compose.yml). At the first start it copies the primary, whose host, role and password are in
# PGHOST, PGUSER and PGPASSWORD. Then it runs PostgreSQL with the arguments that it was given.
set -eu

if [ ! -e "$PGDATA" ]; then
    # A copy that was interrupted is made again.
    rm -rf "$PGDATA.new"
    # The name by which synchronous_standby_names knows this standby.
    pg_basebackup --dbname application_name=standby --pgdata "$PGDATA.new" --write-recovery-conf --slot standby --checkpoint fast
    mv "$PGDATA.new" "$PGDATA"
fi
exec postgres "$@"
