# The runs of compare.sh, as tables: for each scenario and system the medians, their spread, and ratios to Kamailio.
# Columns: scenario, system, highest rate, whose bound, CPU us each at it, the common rate, % successful at it,
# CPU us each there: all, user, system, receiving kernel thread; latency in ms there: median, q99, q99.9, max; samples, mean, q75, q90.

{
    if (!($1 in known)) { known[$1] = ++scenarios; scenario_at[scenarios] = $1 }
    if (!(($1, $2) in count)) { order[$1] = order[$1] " " $2 }
    run = ++count[$1, $2]
    for (column = 3; column <= NF; column++) value[$1, $2, column, run] = $column
    if ($4 == "load") of_load[$1, $2] = 1
}

END {
    for (place = 1; place <= scenarios; place++) {
        if (scenario_at[place] ~ /^latency/) tell_latency(scenario_at[place])
        else tell(scenario_at[place])
    }
    print "Highest rate: with at least 99.9 % answered within 500 ms; `>=` where the load, and not the server, was the bound."
    print "CPU: of the server's processes and of its receive NAPI, by schedstat, in us an operation, all at the same rate; user, kernel and NAPI are its parts."
}

function tell(scenario, systems, n, i, who, base_rate, base_cpu, rate, cpu) {
    printf "### %s\n\n", title(scenario)
    printf "| | highest rate, 1/s | x Kamailio | CPU us each at it | Kamailio's / its | CPU us each at %d/s | Kamailio's / its | user | kernel | NAPI | median ms | q99 | q99.9 | max | runs |\n", median(scenario, first(scenario), 6)
    print "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    base_rate = median(scenario, "kamailio", 3); base_cpu = median(scenario, "kamailio", 8)
    n = split(order[scenario], systems, " ")
    for (i = 1; i <= n; i++) {
        who = systems[i]
        rate = median(scenario, who, 3); cpu = median(scenario, who, 8)
        printf "| %s | %s%d%s | %s | %.1f | %s | %.1f%s | %s | %.1f | %.1f | %.1f | %.2f | %.2f | %.2f | %.2f | %d |\n", who, \
            ((scenario, who) in of_load) ? ">= " : "", rate, spread(scenario, who, 3, "%d"), ratio(rate, base_rate), \
            median(scenario, who, 5), ratio(median(scenario, "kamailio", 5), median(scenario, who, 5)), cpu, spread(scenario, who, 8, "%.1f"), ratio(base_cpu, cpu), median(scenario, who, 9), \
            median(scenario, who, 10), median(scenario, who, 11), median(scenario, who, 12), median(scenario, who, 13), \
            median(scenario, who, 14), median(scenario, who, 15), count[scenario, who]
    }
    print ""
}

function tell_latency(scenario, n, i, j, names, columns) {
    printf "### Latency of %s at %d/s, ms, from when each was due\n\n", scenario == "latency-call" ? "INVITE to 200" : "REGISTER to 200", \
        median(scenario, first(scenario), 6)
    print "| | samples | median | mean | q75 | q90 | q99 | q99.9 | max | % successful | runs |"
    print "|---|---|---|---|---|---|---|---|---|---|---|"
    split("16 12 17 18 19 13 14 15", columns, " ")
    n = split(order[scenario], names, " ")
    for (i = 1; i <= n; i++) {
        printf "| %s | %d", names[i], median(scenario, names[i], 16)
        for (j = 2; j <= 8; j++) printf " | %.3f", median(scenario, names[i], columns[j])
        printf " | %.3f | %d |\n", median(scenario, names[i], 7), count[scenario, names[i]]
    }
    print ""
}

function title(scenario) {
    if (scenario == "options") return "OPTIONS, answered"
    if (scenario == "register") return "REGISTER, refreshes of registered phones, in memory"
    if (scenario == "digest") return "REGISTER with digest, nonces used again"
    if (scenario == "call") return "Calls through the location: 6 messages in, 7 out"
    if (scenario == "forward") return "Forwarding of OPTIONS and its 200: Kamailio without state, Strowger with transactions"
    if (scenario == "store") return "REGISTER, refreshes that go to Postgres: Kamailio by write-back (db_mode 2)"
    return scenario
}

function first(scenario, systems) { split(order[scenario], systems, " "); return systems[1] }
function ratio(a, b) { return (a > 0 && b > 0) ? sprintf("%.2f", a / b) : "" }

function sorted(scenario, who, column, list, n, i, j, x) {
    n = count[scenario, who]
    for (i = 1; i <= n; i++) list[i] = value[scenario, who, column, i] + 0
    for (i = 2; i <= n; i++) {
        x = list[i]
        for (j = i - 1; j > 0 && list[j] > x; j--) list[j + 1] = list[j]
        list[j + 1] = x
    }
    return n
}

function median(scenario, who, column, list, n) {
    n = sorted(scenario, who, column, list)
    if (n == 0) return 0
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}

function spread(scenario, who, column, format, list, n) {
    n = sorted(scenario, who, column, list)
    return n < 2 ? "" : sprintf(" [" format " to " format "]", list[1], list[n])
}
