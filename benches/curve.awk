# The curves of overload.sh as SVG, a panel for each kind: for each server, what it does against what is offered.
# Columns: server, kind, times its highest rate, offered a second, done a second.

{
    if (!($2 in panel)) { panel[$2] = ++panels; kind[panels] = $2 }
    p = panel[$2]
    if (!($1 in place)) { place[$1] = ++servers; name[servers] = $1 }
    s = place[$1]
    n = ++points[p, s]
    x[p, s, n] = $4 + 0; y[p, s, n] = $5 + 0
    if (x[p, s, n] > widest[p]) widest[p] = x[p, s, n]
    if (y[p, s, n] > highest[p]) highest[p] = y[p, s, n]
}

END {
    width = 720; each = 400; left = 70; bottom = 50; top = 40; right = 20
    split("#b5452c #1f6f8b #4a7c3a", colours, " ")
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, each * panels)
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    for (p = 1; p <= panels; p++) {
        printf("<g transform=\"translate(0 %d)\">\n", each * (p - 1))
        draw_axes()
        for (s = 1; s <= servers; s++) if ((p, s) in points) draw_curve()
        print "</g>"
    }
    print "</svg>"
}

# Lines at round figures, and what the axes mean.
function draw_axes(    value, step) {
    step = round_step(highest[p])
    for (value = 0; value <= highest[p]; value += step) {
        printf("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left, at_y(value), width - right, at_y(value))
        printf("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d</text>\n", left - 6, at_y(value) + 4, value)
    }
    step = round_step(widest[p])
    for (value = 0; value <= widest[p]; value += step)
        printf("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", at_x(value), each - bottom + 18, value)
    printf("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s offered a second</text>\n", (left + width) / 2, each - bottom + 36, noun(kind[p]))
    printf("<text x=\"%d\" y=\"24\">%s done a second</text>\n", left, noun(kind[p]))
    # What would be done if there were no bound.
    most = widest[p] < highest[p] ? widest[p] : highest[p]
    printf("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#999\" stroke-dasharray=\"4 4\"/>\n", at_x(0), at_y(0), at_x(most), at_y(most))
}

# The curve of a server, and its name at the end.
function draw_curve(    line, n, px, py) {
    line = ""
    for (n = 1; n <= points[p, s]; n++) {
        px = at_x(x[p, s, n]); py = at_y(y[p, s, n])
        line = line sprintf("%.1f,%.1f ", px, py)
        printf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", px, py, colours[s])
    }
    printf("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", line, colours[s])
    printf("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" fill=\"%s\">%s</text>\n", px, py + 16, colours[s], name[s])
}

# A step of 1, 2 or 5 times a power of ten that goes four to ten times into `value`.
function round_step(value,    step) {
    step = 1
    while (value / step > 10) {
        if (value / (step * 2) <= 10) return step * 2
        if (value / (step * 5) <= 10) return step * 5
        step *= 10
    }
    return step
}

function noun(kind) { return kind == "register" ? "registrations" : kind }

function at_x(value) { return left + (width - right - left) * value / (widest[p] > 0 ? widest[p] : 1) }
function at_y(value) { return each - bottom - (each - bottom - top) * value / (highest[p] > 0 ? highest[p] : 1) }
