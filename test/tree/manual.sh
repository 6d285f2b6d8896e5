#!/bin/bash
# manual.sh SOURCE BUILD [--write] - the OPTIONS part of hawser.ini(5) is what the table of options prints, its example
# is one that hawser reads, and the page has no roff mistakes. --write puts the part into the page.
set -euo pipefail
usage='usage: manual.sh SOURCE BUILD [--write]'
source_dir=${1:?$usage}
build_dir=${2:?$usage}
page=$source_dir/doc/man/hawser.ini.5
printer=$build_dir/test/test_config
begin='.\" OPTIONS BEGIN'
end='.\" OPTIONS END'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ -x "$printer" ] || { echo "$printer is not there; build the target test_config" >&2 && exit 1; }
"$printer" --manual >"$work/options"
[ -s "$work/options" ] || { echo "$printer --manual prints nothing" >&2 && exit 1; }
for mark in "$begin" "$end"; do
    [ "$(grep -cxF "$mark" "$page")" = 1 ] || { echo "$page: must have one line '$mark'" >&2 && exit 1; }
done

# The page with the part between the marks replaced.
{
    sed "/^\.\\\\\" OPTIONS BEGIN\$/q" "$page"
    cat "$work/options"
    sed -n "/^\.\\\\\" OPTIONS END\$/,\$p" "$page"
} >"$work/page"
if [ "${3:-}" = --write ]; then
    cat "$work/page" >"$page"
fi
if ! diff -u "$page" "$work/page"; then
    echo "$page: OPTIONS is not what the table says; run: bash $0 $source_dir $build_dir --write" >&2
    exit 1
fi

# The example, between .nf and .fi after EXAMPLE.
sed -n '/^\.SH EXAMPLE/,/^\.SH SEE/{/^\.nf/,/^\.fi/{/^\./d;p}}' "$page" >"$work/example.ini"
[ -s "$work/example.ini" ] || { echo "$page: EXAMPLE holds no example" >&2 && exit 1; }
"$printer" --check "$work/example.ini"

if command -v groff >/dev/null; then
    groff -man -Tutf8 -ww -z "$page" 2>"$work/roff" || true
    if [ -s "$work/roff" ]; then
        cat "$work/roff" >&2
        exit 1
    fi
fi
