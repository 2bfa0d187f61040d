#!/bin/sh
# A user and a schema a service: each can read and write its own alone. PostgreSQL's image runs this once, on an empty volume.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --set register="$REGISTER_PASSWORD" --set partnerships="$PARTNERSHIPS_PASSWORD" --set networks="$NETWORKS_PASSWORD" \
  --set strategy="$STRATEGY_PASSWORD" --set caretaker="$CARETAKER_PASSWORD" <<'SQL'
CREATE ROLE register LOGIN PASSWORD :'register';
CREATE ROLE partnerships LOGIN PASSWORD :'partnerships';
CREATE ROLE networks LOGIN PASSWORD :'networks';
CREATE ROLE strategy LOGIN PASSWORD :'strategy';
-- Looks after all of them: doctor, replay, rebuild.
CREATE ROLE caretaker LOGIN PASSWORD :'caretaker' IN ROLE register, partnerships, networks, strategy;
CREATE SCHEMA register AUTHORIZATION register;
CREATE SCHEMA partnerships AUTHORIZATION partnerships;
CREATE SCHEMA networks AUTHORIZATION networks;
CREATE SCHEMA strategy AUTHORIZATION strategy;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL
