#!/bin/bash
# floors.sh SOURCE [BUILD] - a floor includes only its own and lower floors.
#
# The floor of include/hawser/NAME.h is that of the folder with its body, src/FLOOR/NAME.c; where there is no body of
# that name (header only, or a body with a longer name) the header's first comment says it: "(floor N". Where
# both say it they must agree. A file in src/FLOOR may include a private header of its own folder by its bare name.
set -euo pipefail
source_dir=${1:?usage: floors.sh SOURCE [BUILD]}

# Folder, the number that people use, and the order that decides: the store may use the codec, never the reverse.
floors='base 0 0
codec 1 10
store 1 15
policy 2 20
net 3 30
tunnel 4 40
flow 5 50
runtime 6 60
operate 7 70
programs 8 80'

# Headers of floor 1 without a body of their name that belong to the store; the others are the codec's.
store_headers=''

folder_field() { # FOLDER COLUMN
    awk -v folder="$1" -v column="$2" '$1 == folder { print $column }' <<<"$floors"
}

order_of_number() { # N HEADER
    if [[ " $store_headers " == *" $2 "* ]]; then
        folder_field store 3
    else
        awk -v number="$1" '$2 == number { print $3; exit }' <<<"$floors"
    fi
}

# The order of a header, or a line on stderr and failure.
header_order() { # ROOT NAME
    local root=$1 name=$2 bodies folder stated
    stated=$(sed -n '1,5{s/.*(floor \([0-9]\).*/\1/p}' "$root/include/hawser/$name.h" | head -n 1)
    bodies=$(cd "$root/src" && find . -mindepth 2 -maxdepth 2 -name "$name.c" | cut -d/ -f2)
    if [ "$(wc -w <<<"$bodies")" -gt 1 ]; then
        echo "include/hawser/$name.h: has more than one body: $(tr '\n' ' ' <<<"$bodies")" >&2
        return 1
    fi
    folder=$bodies
    if [ -z "$stated" ]; then
        echo "include/hawser/$name.h: its first comment does not say '(floor N'" >&2
        return 1
    fi
    if [ -z "$folder" ]; then
        order_of_number "$stated" "$name"
    elif [ "$(folder_field "$folder" 2)" != "$stated" ]; then
        echo "include/hawser/$name.h: says floor $stated, but its body is in src/$folder" >&2
        return 1
    else
        folder_field "$folder" 3
    fi
}

check_file() { # ROOT FILE ORDER: what FILE, at ORDER, includes
    local root=$1 file=$2 order=$3 number include name bad=0
    while IFS=: read -r number include; do
        case $include in
        hawser/*.h)
            name=$(basename "$include" .h)
            if [ -z "${orders[$name]:-}" ]; then
                echo "$file:$number: includes $include, which is not in include/hawser" >&2
                bad=1
            elif [ "${orders[$name]}" -gt "$order" ]; then
                echo "$file:$number: includes $include of a higher floor; pass a callback down instead" >&2
                bad=1
            fi
            ;;
        */*)
            echo "$file:$number: includes $include out of another folder; what is shared is in include/hawser" >&2
            bad=1
            ;;
        *)
            if [ ! -f "$root/$(dirname "$file")/$include" ]; then
                echo "$file:$number: includes $include, which is not beside it" >&2
                bad=1
            fi
            ;;
        esac
    done < <(sed -n '/^[[:space:]]*#[[:space:]]*include[[:space:]]*"/{=;s/^[^"]*"\([^"]*\)".*/\1/p}' "$root/$file" |
        paste -d: - -)
    return $bad
}

check_tree() { # ROOT
    local root=$1 header name file folder bad=0
    declare -A orders=()
    for header in "$root"/include/hawser/*.h; do
        name=$(basename "$header" .h)
        orders[$name]=$(header_order "$root" "$name") || { bad=1 && orders[$name]=0; }
    done
    for header in "$root"/include/hawser/*.h; do
        name=$(basename "$header" .h)
        check_file "$root" "include/hawser/$name.h" "${orders[$name]}" || bad=1
    done
    while read -r file; do
        folder=$(cut -d/ -f2 <<<"$file")
        if [ -z "$(folder_field "$folder" 3)" ]; then
            echo "$file: src/$folder is not a floor" >&2
            bad=1
        else
            check_file "$root" "$file" "$(folder_field "$folder" 3)" || bad=1
        fi
    done < <(cd "$root" && find src -name '*.[ch]' | sort)
    return $bad
}

# A check that cannot fail is none: a small tree that breaks each rule once must be found out.
check_the_check() {
    local root
    root=$(mktemp -d)
    trap 'rm -rf "$root"' RETURN
    mkdir -p "$root/include/hawser" "$root/src/base" "$root/src/codec" "$root/src/store"
    echo '/* low.h - (floor 0). */' >"$root/include/hawser/low.h"
    echo '/* frame.h - (floor 1). */' >"$root/include/hawser/frame.h"
    echo '/* cold.h - (floor 1). */' >"$root/include/hawser/cold.h"
    echo '#include "hawser/low.h"' >"$root/src/base/low.c"
    echo '#include "hawser/low.h"' >"$root/src/codec/frame.c"
    printf '#include <stdio.h>\n#include "hawser/frame.h"\n' >"$root/src/store/cold.c"
    check_tree "$root" || { echo "floors.sh: refuses a tree that is in order" >&2 && return 1; }
    local breach
    for breach in 'base/low.c hawser/frame.h' 'codec/frame.c hawser/cold.h' 'base/low.c hawser/none.h' \
        'base/low.c ../codec/x.h' 'base/low.c beside.h'; do
        echo "#include \"${breach#* }\"" >"$root/src/${breach% *}"
        if check_tree "$root" 2>/dev/null; then
            echo "floors.sh: does not notice src/${breach% *} including ${breach#* }" >&2
            return 1
        fi
        echo '#include "hawser/low.h"' >"$root/src/${breach% *}"
    done
}

check_the_check
check_tree "$source_dir"
