#!/bin/sh
# The image of PostgreSQL runs this once, when it has made the database of the profile `fleet` (docker-compose.yml): the role and the database
# of the relays, and the role, the slot and the setting by which the standby becomes a synchronous one.
set -e

psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --set password="$POSTGRES_PASSWORD" <<'SQL'
CREATE ROLE segment_relay LOGIN PASSWORD :'password';
CREATE DATABASE segment_relay OWNER segment_relay;
REVOKE ALL ON DATABASE segment_relay FROM PUBLIC;
-- Customers are parameters of statements. They stay out of the server's log.
ALTER ROLE segment_relay SET log_parameter_max_length = 0;
-- The relay can see whether a standby is synchronous.
GRANT pg_monitor TO segment_relay;
CREATE ROLE standby LOGIN REPLICATION PASSWORD :'password';
SELECT pg_create_physical_replication_slot('standby');
-- From the next start on every commit waits for the standby. A commit before there is one would wait for ever.
ALTER SYSTEM SET synchronous_standby_names = 'standby';
SQL

# `host all` in this file does not count for replication.
echo 'host replication standby all scram-sha-256' >> "$PGDATA/pg_hba.conf"
