# The scenarios in which servers are measured. To be sourced after servers.sh.

phones=100000

# prepare_scenario SCENARIO SYSTEM: starts the server, and says what its load is: `about`, where a search begins (`first`, for the
# slowest), the rate that all systems hold (`even_rate`), and how many seconds pass before its first attempt (`lead`). Where the latency is
# what is measured, Strowger's worker spins before it sleeps, as it would where latency is what is wanted.
prepare_scenario() {
    lead=0
    case "$1" in
    options)
        start_server "$2" options ''
        about=(options --phones 20000) first=32000 even_rate=40000
        if [[ $2 == echo-* ]]; then about+=(--echo); fi
        ;;
    register)
        start_server "$2" registrar "$no_store
[limits]
prefault = \"5%\""
        about=(register --phones $phones --expires 7200) first=32000 even_rate=40000
        if [[ $2 == echo-* ]]; then about+=(--echo); else about+=(--prepare --prepare-rate 12000) lead=$((phones / 12000)); fi
        ;;
    latency-register)
        local spin_us=200
        prepare_scenario register "$2"
        even_rate=10000
        ;;
    latency-call)
        local spin_us=200
        prepare_scenario call "$2"
        even_rate=1000
        ;;
    digest)
        start_server "$2" registrar-auth-pv "$accounts"
        about=(register --phones 10000 --password secret --prepare --prepare-rate 4000) first=16000 even_rate=25000 lead=3
        ;;
    call)
        start_server "$2" registrar "$no_store
[limits]
memory = \"70%\"
prefault = \"20%\"
bindings = 200000"
        about=(invite --phones 30000 --prepare-rate 8000 --hold 0) first=5000 even_rate=6000 lead=4
        ;;
    forward)
        start_server "$2" stateless "$no_store
[[peer]]
name = \"load\"
addresses = [\"$load_address/32\"]
[limits]
memory = \"70%\"
bindings = 200000"
        about=(options --through --phones 20000) first=16000 even_rate=20000
        ;;
    store)
        start_postgres
        start_server "$2" registrar-dbmode2 "[store]
url = \"postgres://kamailio:kamailio@127.0.0.1:5432/kamailio\""
        about=(register --phones 20000 --prepare --prepare-rate 2000 --expires 7200) first=8000 even_rate=6000 lead=10
        ;;
    *) die "there is no scenario $1" ;;
    esac
}

# start_server SYSTEM CONFIGURATION-OF-KAMAILIO MORE-OF-STROWGER
start_server() {
    case "$1" in
    kamailio) start_kamailio "$2" ;;
    strowger-*) start_strowger "${1#strowger-}" "$3" ;;
    echo-*) start_echo "${1#echo-}" ;;
    *) die "there is no system $1" ;;
    esac
}

# Where a search begins: near to what is known of each, so that few trials are needed.
first_rate() {
    case "$1" in
    kamailio) echo "$2" ;;
    *udp) echo $(($2 * 3 / 2)) ;;
    *) echo $(($2 * 3)) ;;
    esac
}
