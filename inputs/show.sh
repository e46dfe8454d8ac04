#!/bin/bash
# show.sh - prompts and their answers side by side, from a JSONL prompt file and an exported result
# file (epidote export), joined by id.  `make demo-llm` ends with it.
#
#   inputs/show.sh PROMPTS.jsonl ANSWERS.jsonl
#
# Not a JSON reader for all purposes: one flat object a line, arrays and objects inside are skipped,
# except that the last "content" of `messages` is taken as the prompt.
set -eu
width=${COLUMNS:-$(tput cols 2>/dev/null || echo 100)}
[ "$width" -ge 60 ] || width=60
[ "$width" -le 120 ] || width=120

LC_ALL=C awk -v width="$width" '
# string - read the string that begins at position `at` (its opening quote); sets `at` past its end.
function string(line,    c, out, h) {
    out = ""
    for (at++; (c = substr(line, at, 1)) != "\"" && c != ""; at++) {
        if (c != "\\") { out = out c; continue }
        c = substr(line, ++at, 1)
        if (c == "n") out = out "\n"
        else if (c == "t") out = out "\t"
        else if (c == "u") { out = out unicode(hex(substr(line, at + 1, 4))); at += 4 }
        else if (c !~ /[rbf]/) out = out c
    }
    at++
    return out
}
function hex(s,    i, n) {
    n = 0
    for (i = 1; i <= length(s); i++) n = n * 16 + index("0123456789abcdef", tolower(substr(s, i, 1))) - 1
    return n
}
function unicode(n) {
    if (n < 128) return sprintf("%c", n)
    if (n < 2048) return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64)
    return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64)
}
# object - fields of one line into field[]; nested values are walked over, their "content" is noted.
function object(line,    c, key, depth, value) {
    split("", field)
    at = 1; depth = 0; key = ""
    while (at <= length(line)) {
        c = substr(line, at, 1)
        if (c == "{" || c == "[") { depth++; at++ }
        else if (c == "}" || c == "]") { depth--; at++ }
        else if (c == "\"") {
            value = string(line)
            if (match(substr(line, at), /^[ \t]*:[ \t]*/)) { key = value; at += RLENGTH; colon = 1 }
            else if (depth == 1) field[key] = value
            else if (key == "content") field["prompt"] = value
        } else if (c ~ /[-0-9tfn]/ && depth == 1) {
            match(substr(line, at), /^[-+.A-Za-z0-9]+/)
            field[key] = substr(line, at, RLENGTH)
            at += RLENGTH
        } else at++
    }
}
# wrap - text from column `left` on, broken at spaces, at most `most` lines.
function wrap(text, left, most,    n, i, para, words, w, line, pad, shown) {
    pad = sprintf("%" left "s", ""); shown = 0
    gsub(/\n\n+/, "\n", text); sub(/^[ \n]+/, "", text); sub(/[ \n]+$/, "", text)
    n = split(text, para, "\n")
    for (i = 1; i <= n; i++) {
        w = para[i]
        do {
            line = w
            if (length(line) > width - left) {
                line = substr(w, 1, width - left)
                if (match(line, / [^ ]*$/) && RSTART > 1) line = substr(line, 1, RSTART - 1)
            }
            w = substr(w, length(line) + 1); sub(/^ /, "", w)
            if (++shown > most) { print pad "[...]"; return }
            print (shown == 1 ? "" : pad) line
        } while (w != "")
    }
    if (n == 0) print ""
}
FNR == NR { object($0); prompt[field["id"]] = field["prompt"]; next }
{
    object($0)
    reason = field["finish_reason"]
    printf "%-10s", field["id"]
    wrap(prompt[field["id"]], 10, 3)
    printf "%10s", ""
    wrap("> " (reason == "error" ? "error: " field["error"] : field["text"]), 10, 8)
    printf "%10s(%s%s)\n\n", "", reason, field["output_len"] != "" ? ", " field["output_len"] " tokens" : ""
}' "$1" "$2"
