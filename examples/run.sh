#!/bin/sh
# run.sh DIRECTORY PROGRAM...: runs it in an empty directory.
set -e
directory=$1
shift
rm -rf "$directory"
mkdir -p "$directory"
cd "$directory"
exec "$@"
