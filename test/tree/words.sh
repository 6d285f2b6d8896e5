#!/bin/bash
# words.sh SOURCE [BUILD] - what the style says and a machine can see: no file over 700 lines, no sleeping, no
# type or file whose name says nothing. CONTRIBUTING.md has the reasons.
set -euo pipefail
cd "${1:?usage: words.sh SOURCE [BUILD]}"
longest=700
bad=0

complain() { # TEXT: each line of it is a place and a reason
    if [ -n "$1" ]; then
        printf '%s\n' "$1" >&2
        bad=1
    fi
}

sources=$(find src include -name '*.[ch]' | sort)
[ -n "$sources" ] || { echo "no sources below $PWD" >&2 && exit 1; }

while read -r file; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt "$longest" ]; then
        complain "$file: $lines lines; split it at a boundary (at most $longest)"
    fi
    case $(basename "$file") in
    util*.[ch] | helper*.[ch] | common.[ch] | misc.[ch])
        complain "$file: a name that says nothing; name it after what it does"
        ;;
    esac
done <<<"$sources"

# shellcheck disable=SC2086 # one path a word: no source file has a space in its name
complain "$(grep -nE '\bu?sleep *\(' $sources | sed 's/$/   <- wait for a condition, not for time/' || true)"
# shellcheck disable=SC2086
complain "$(grep -nE '\b(struct|enum|union) (ctx|context|data|handler|manager|util|info)\b' $sources |
    sed 's/$/   <- name the thing it is/' || true)"
exit $bad
