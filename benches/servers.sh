# The servers that are measured, and what they need. To be sourced after bed.sh.

# start_kamailio CONFIGURATION [CHILDREN]: with its fast allocator, and a receive buffer that REGISTERs do not overflow.
start_kamailio() {
    local children=${2:-1}
    sed -e "s/ADDRESS/$target/" -e "s#FOLDER#$scratch#" -e "s/^children=.*/children=$children/" "benches/kamailio/$1.cfg" >"$scratch/kamailio.cfg"
    rm -f "$scratch/kamailio.ctl"
    ip netns exec $server_space taskset -c "$server_core" kamailio -DD -x tlsf -b 4194304 -m 6144 -M 64 -Y "$scratch" -w "$scratch" \
        -P "$scratch/kamailio.pid" -f "$scratch/kamailio.cfg" >"$scratch/kamailio.log" 2>&1 7>&- &
    server_main=$!
    wait_until "Kamailio answers" 20 kamailio_is_up
    server_pids=("$(cat "$scratch/kamailio.pid")")
    mapfile -t -O 1 server_pids < <(pgrep -P "${server_pids[0]}")
    place_napi
}

kamailio_is_up() { timeout 1 kamcmd -s "unix:$scratch/kamailio.ctl" core.version >/dev/null 2>&1; }

# start_strowger BACKEND [MORE]: one worker on the server's core; MORE is appended to its configuration, and `spin_us` is its own.
start_strowger() {
    local backend="backend = \"udp\"" workers=${workers:-1} cpus=$server_core
    [ "$1" = udp ] || backend="backend = \"af_xdp\"
interface = \"$server_device\"
mode = \"driver\""
    [ "$workers" = 1 ] || cpus=$server_core,$load_core
    strowger_configuration "$cpus" "$backend" "${2:-$no_store}" >"$scratch/strowger.toml"
    if [[ ${2-} == *sqlite:* ]]; then make_accounts "$scratch/strowger.toml"; fi
    if [[ ${2-} == *postgres:* ]]; then in_space $server_space "$strowger" ctl --config "$scratch/strowger.toml" store.migrate >/dev/null; fi
    ip netns exec $server_space taskset -c "$cpus" "$strowger" run --config "$scratch/strowger.toml" --log-level warn \
        >"$scratch/strowger.log" 2>&1 7>&- &
    server_main=$!
    wait_until "Strowger answers" 20 strowger_is_up
    server_pids=("$server_main")
    place_napi
}

strowger_configuration() {
    cat <<TOML
[[listen]]
address = "$target"
tcp = false
$2
[workers]
count = ${workers:-1}
cpus = [$1]
spin_us = ${spin_us:-0}
[sip]
domains = ["example.com"]
secret_file = "$scratch/strowger.key"
[admin]
listen = "127.0.0.1:8060"
${3//FOLDER/$scratch}
TOML
}

no_store='[store]
url = "none"'

strowger_is_up() { strowger_metrics >/dev/null 2>&1; }

strowger_metrics() { in_space $server_space curl -sf --max-time 5 http://127.0.0.1:8060/metrics; }

# start_echo BACKEND: what comes is sent back by the ports of our network layer, and nothing else is done.
start_echo() {
    ip netns exec $server_space taskset -c "$server_core" "$(dirname "$strowger")/examples/echo" "$1" $target $server_device >"$scratch/echo.log" 2>&1 7>&- &
    server_main=$!
    wait_until "the echo listens" 10 grep -q ready "$scratch/echo.log"
    server_pids=("$server_main")
    place_napi
}

# Users load0 to load9999 for whoever asks the database; its bindings' rows are written too, which Kamailio here is spared.
accounts='[store]
url = "sqlite:FOLDER/strowger.db"
[auth]
realm = "example.com"
algorithms = ["MD5"]'

# make_accounts CONFIGURATION: the tables and 10,000 users, whatever the server before left.
make_accounts() {
    rm -f "$scratch"/strowger.db*
    "$strowger" ctl --config "$1" store.migrate >/dev/null
    sqlite3 "$scratch/strowger.db" "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
        INSERT INTO subscriber (username, domain, password, ha1, ha1b) SELECT 'load' || i, 'example.com', 'secret', '', '' FROM n"
}

# A Postgres of our own in the server's namespace, on the load's core: of the server, the server's own work is measured.
start_postgres() {
    local bin script
    bin=$(echo /usr/lib/postgresql/*/bin)
    bin=${bin##* }
    postgres_data=$scratch/postgres
    rm -rf "$postgres_data"
    mkdir "$postgres_data"
    chmod 711 "$scratch"
    chown postgres "$postgres_data"
    as_postgres "$bin/initdb" -D "$postgres_data" -A trust --no-sync -E UTF8 --locale=C >/dev/null
    printf "listen_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\n" "$postgres_data" >>"$postgres_data/postgresql.conf"
    in_space $server_space taskset -c "$load_core" setpriv --reuid postgres --regid postgres --clear-groups \
        "$bin/postgres" -D "$postgres_data" >"$scratch/postgres.log" 2>&1 7>&- &
    postgres_pid=$!
    local tenths
    for ((tenths = 0; tenths < 100; tenths++)); do
        if in_postgres postgres -c 'SELECT 1' >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
    in_postgres postgres -qc 'CREATE ROLE kamailio LOGIN SUPERUSER' -c 'CREATE DATABASE kamailio OWNER kamailio'
    # Kamailio's own tables, which Strowger serves, too.
    for script in standard usrloc; do in_postgres kamailio -q <"/usr/share/kamailio/postgres/$script-create.sql" >/dev/null; done
}

as_postgres() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }

in_postgres() { as_postgres psql -h "$postgres_data" -d "$@"; }

stop_postgres() {
    [ -n "${postgres_pid-}" ] || return 0
    kill -INT "$postgres_pid" 2>/dev/null || true
    wait "$postgres_pid" 2>/dev/null || true
    postgres_pid=''
}
