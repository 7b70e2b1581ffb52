# The curve of overload.sh as SVG: for each server, what it establishes against what is offered.

{
    if (!($1 in place)) { place[$1] = ++servers; name[servers] = $1 }
    n = ++points[$1]
    x[$1, n] = $4 + 0; y[$1, n] = $5 + 0
    if (x[$1, n] > widest) widest = x[$1, n]
    if (y[$1, n] > highest) highest = y[$1, n]
}

END {
    width = 720; height = 420; left = 70; bottom = 50; top = 30
    split("#b5452c #1f6f8b #4a7c3a", colours, " ")
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " width " " height "\" font-family=\"sans-serif\" font-size=\"12\">"
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    for (i = 0; i <= 5; i++) {
        printf "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left, at_y(highest * i / 5), width - 20, at_y(highest * i / 5)
        printf "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d</text>\n", left - 6, at_y(highest * i / 5) + 4, highest * i / 5
        printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", at_x(widest * i / 5), height - bottom + 18, widest * i / 5
    }
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">calls offered a second</text>\n", (left + width) / 2, height - 10
    printf "<text x=\"%d\" y=\"18\">calls established a second</text>\n", left
    for (s = 1; s <= servers; s++) {
        line = ""
        for (n = 1; n <= points[name[s]]; n++) {
            px = at_x(x[name[s], n]); py = at_y(y[name[s], n])
            line = line sprintf("%.1f,%.1f ", px, py)
            printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", px, py, colours[s]
        }
        printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", line, colours[s]
        printf "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", width - 160, top + 18 * s, colours[s], name[s]
    }
    print "</svg>"
}

function at_x(value) { return left + (width - 20 - left) * value / (widest > 0 ? widest : 1) }
function at_y(value) { return height - bottom - (height - bottom - top) * value / (highest > 0 ? highest : 1) }
