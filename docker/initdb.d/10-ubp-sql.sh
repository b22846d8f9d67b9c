#!/usr/bin/env bash
# Run once by the official image's entry point, when it makes a new database.
set -euo pipefail
ubp-sql init --dsn "user=$POSTGRES_USER dbname=${POSTGRES_DB:-$POSTGRES_USER}"
