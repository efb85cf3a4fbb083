#!/usr/bin/env bash
# What a tick with nothing due costs: `duly run` beside a C program that connects through the same client library to the same
# MariaDB and selects 1. The two take turns, so that whatever else the machine does slows both.
#   benches/idle.sh PROGRAM [RUNS]        the server is a private one, and gone at the end
set -euo pipefail
duly=$(realpath "$1")
runs=${2:-200}
memory=/dev/shm
[[ -d $memory && -w $memory ]] || memory=${TMPDIR:-/tmp}
dir=$(mktemp -d "$memory/duly-bench-XXXXXX")
server=
trap '[[ -z $server ]] || { kill -9 "$server"; wait "$server"; } 2>/dev/null || true; rm -rf "$dir"' EXIT
PATH=$PATH:/usr/sbin:/usr/libexec

# MariaDB does not run as root.
as=() user=()
if [[ $EUID == 0 ]]; then
    name=nobody
    ! id -u mysql >/dev/null 2>&1 || name=mysql
    as=(setpriv "--reuid=$name" "--regid=$(id -g "$name")" --init-groups) user=("--user=$name")
    chown "$name" "$dir"
fi
chmod 755 "$dir"
mariadb-install-db --no-defaults --datadir="$dir/data" --skip-test-db --force "${user[@]}" \
    --auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
port=$((15000 + $$ % 15000))
"${as[@]}" mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/socket" --pid-file="$dir/data/pid" --port="$port" \
    --bind-address=127.0.0.1 --skip-name-resolve --innodb-flush-log-at-trx-commit=1 >>"$dir/log" 2>&1 &
server=$!
sql() { mariadb --no-defaults --socket="$dir/socket" --user="$(id -un)" -BN -e "$1"; }
for ((i = 0; ; i++)); do
    ! sql 'SELECT 1' >/dev/null 2>&1 || break
    ((i < 600)) && kill -0 "$server" 2>/dev/null || { cat "$dir/log" >&2; echo "MariaDB does not start" >&2; exit 1; }
    sleep 0.1
done
sql "CREATE DATABASE bench; CREATE USER bench@'%' IDENTIFIED BY 'bench'; GRANT ALL ON bench.* TO bench@'%'"

cat >"$dir/connect.c" <<C
#include <mysql.h>
int main(void) {
    MYSQL *db = mysql_init(0);
    if (!mysql_real_connect(db, "127.0.0.1", "bench", "bench", "bench", $port, 0, 0)) return 1;
    if (mysql_query(db, "SELECT 1")) return 1;
    MYSQL_RES *rows = mysql_store_result(db);
    if (!rows || mysql_num_rows(rows) != 1) return 1;
    mysql_free_result(rows);
    mysql_close(db);
    return 0;
}
C
# shellcheck disable=SC2046
cc -O2 "$dir/connect.c" -o "$dir/connect" $(pkg-config --cflags --libs libmariadb || pkg-config --cflags --libs mysqlclient)

mkdir -m 700 "$dir/work"
cd "$dir/work"
unset DULY_CONFIG DATABASE_URL DATABASE_URL_FILE
cat >jobs.yaml <<YAML
database: mysql://bench:bench@127.0.0.1:$port/bench
runner: {state_dir: $dir/work/state}
jobs:
  hello: {command: [echo, hello]}
  nightly: {command: [echo, hello], schedule: "0 2 * * *"}
YAML
chmod 600 jobs.yaml
"$duly" migrate >/dev/null

# timed FILE COMMAND…: adds to FILE how long the command took, in microseconds.
timed() {
    local file=$1 start=${EPOCHREALTIME/[.,]/} end
    "${@:2}"
    end=${EPOCHREALTIME/[.,]/}
    echo $((end - start)) >>"$file"
}
for _ in 1 2 3 4 5; do "$dir/connect" && "$duly" run; done
for ((i = 0; i < runs; i++)); do
    timed "$dir/reference" "$dir/connect"
    timed "$dir/tick" "$duly" run
done

middle() { sort -n "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
echo "A tick with nothing due, MariaDB $(sql 'SELECT VERSION()') on loopback TCP, medians of $runs runs in turn:"
awk -v a="$(middle "$dir/reference")" -v b="$(middle "$dir/tick")" 'BEGIN {
    printf "  connect and SELECT 1, in C   %6.2f ms\n  duly run                     %6.2f ms\n", a / 1000, b / 1000
    printf "  ratio                        %6.2f    (the target is at most 1.5)\n", b / a
}'
