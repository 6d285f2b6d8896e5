#!/bin/bash
# check.sh [--quick | --long] [--no-deps] - build hawser and run every test; the last line is 'N passed, N failed'.
#
#   --quick     the plain gcc build and its tests only
#   --long      also: gcc -fanalyzer, clang-tidy, a minute of each fuzzer, 100,000 faults in two stores, 200 kills and
#               other faults of two nodes (as root), the network tests three times over
#   --no-deps   the packages are there (contrib/deps.sh is not called)
#
# Builds in build/ (gcc), build-asan/ (clang, address and undefined behaviour) and build-tsan/ (gcc, threads). As
# root the network tests run too, and one that is skipped counts as failed. Exits 1 at any failure.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

extent=normal
install_deps=yes
passed=0
failed=0
broken_steps=()
jobs=$(nproc)
# Most tests wait for a network, not for a processor.
test_jobs=$((2 * jobs))

# What the sanitizer builds run: names of tests as ctest knows them.
asan_tests='^(unit|fuzz)/|^net/test_hawserctl$'
tsan_tests='^unit/(base|runtime)/'

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
}

for option; do
    case $option in
    --quick) extent=quick ;;
    --long) extent=long ;;
    --no-deps) install_deps=no ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done

say() {
    printf '\n== %s (%d s) ==\n' "$*" "$SECONDS"
}

# A step that is no test: it adds nothing to the passed, but one to the failed.
step() { # NAME COMMAND...
    local name=$1
    shift
    say "$name"
    if ! "$@"; then
        echo "FAILED: $name" >&2
        broken_steps+=("$name")
        return 1
    fi
}

# Sanitizers of these compilers' age lose their shadow memory to a kernel that spreads addresses widely
# (vm.mmap_rnd_bits above 28), so they run without the spreading, where that may be asked for.
fixed_addresses=()
if setarch -R true 2>/dev/null; then
    fixed_addresses=(setarch -R)
fi

configure() { # FOLDER CMAKE-OPTION...
    local folder=$1
    shift
    cmake -S . -B "$folder" -G Ninja -DHAWSER_WERROR=ON "$@" >"$folder.log" 2>&1 || {
        cat "$folder.log"
        rm -f "$folder.log"
        return 1
    }
    rm -f "$folder.log"
}

# How many tests of a JUnit report ended so: run (and passed), fail, notrun (skipped, or no program), disabled.
count_status() { # REPORT STATUS
    grep -c "^[[:space:]]*<testcase .* status=\"$2\"" "$1"
}

# Run ctest in a build folder and add its result to the sums.
run_tests() { # TITLE FOLDER CTEST-OPTION...
    local title=$1 folder=$2 good bad skipped
    local report=$PWD/$folder/check-report.xml
    shift 2
    say "$title"
    rm -f "$report"
    # A shared machine stalls for seconds now and then. What fails is tried once more (not with --long, which wants every
    # test to pass three times), and what needed it is named: it is a fault of the test, or a race, to be looked at.
    local again=(--repeat until-pass:2)
    if [ $extent = long ]; then
        again=()
    fi
    "${runner[@]}" ctest --test-dir "$folder" -j "$test_jobs" --output-on-failure --output-junit "$report" \
        "${again[@]}" "$@" | tee "$folder/check-output.log"
    grep -E 'Test +#[0-9]+: .*\*\*\*' "$folder/check-output.log" | sed 's/^/failed at first: /' | sort -u
    if [ ! -s "$report" ]; then
        broken_steps+=("$title: ctest left no report")
        return
    fi
    good=$(count_status "$report" run)
    bad=$(count_status "$report" fail)
    skipped=$(($(count_status "$report" notrun) + $(count_status "$report" disabled)))
    if [ $((good + bad + skipped)) -eq 0 ]; then
        broken_steps+=("$title: no tests found")
    fi
    if [ "$skipped" -gt 0 ] && [ "$(id -u)" -eq 0 ]; then
        echo "$skipped skipped, which counts as failed when run as root" >&2
        bad=$((bad + skipped))
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
}

# ---- the steps ----

check_scripts() {
    find . -name '*.sh' -not -path './build*' -print0 | xargs -0 shellcheck .ci/run
}

check_cppcheck() {
    cppcheck --quiet -j "$jobs" --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 \
        --suppress=missingIncludeSystem -D_GNU_SOURCE \
        --include="/usr/include/$(gcc -dumpmachine)/sys/queue.h" -I include src
}

gcc_build() {
    configure build -DCMAKE_C_COMPILER=gcc && ninja -C build
}

asan_build() {
    configure build-asan -DCMAKE_C_COMPILER=clang -DHAWSER_SANITIZE=address,undefined && ninja -C build-asan
}

# Only the programs of the tests that will run: a third whole build would take longer than it tells.
tsan_build() {
    local targets
    configure build-tsan -DCMAKE_C_COMPILER=gcc -DHAWSER_SANITIZE=thread || return 1
    mapfile -t targets < <(ctest --test-dir build-tsan -N -R "$tsan_tests" | sed -n 's|.*Test *#.*: unit/[a-z]*/||p')
    [ "${#targets[@]}" -gt 0 ] && ninja -C build-tsan "${targets[@]}"
}

plain_part() {
    local repeat=()
    if step "gcc build" gcc_build; then
        if [ $extent = long ]; then
            repeat=(--repeat until-fail:3)
        fi
        runner=(env)
        run_tests "tests, gcc" build "${repeat[@]}"
    fi
}

sanitizer_part() {
    runner=(env "${fixed_addresses[@]}")
    if step "clang build with address and undefined-behaviour sanitizers" asan_build; then
        run_tests "tests, address and undefined-behaviour sanitizers" build-asan -R "$asan_tests"
    fi
    if step "gcc build with the thread sanitizer" tsan_build; then
        run_tests "tests, thread sanitizer" build-tsan -R "$tsan_tests"
    fi
}

analyzer_build() {
    configure build-analyzer -DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS=-fanalyzer && ninja -C build-analyzer
}

check_tidy() {
    find src -name '*.c' -print0 |
        xargs -0 -n 4 -P "$jobs" clang-tidy --quiet -p build --warnings-as-errors='*' \
            --checks='-*,bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,-bugprone-narrowing-conversions,-bugprone-assignment-in-if-condition,-clang-analyzer-valist.Uninitialized'
}

run_fuzzers() {
    local fuzzer name found
    configure build-fuzz -DCMAKE_C_COMPILER=clang -DHAWSER_SANITIZE=address,undefined -DHAWSER_FUZZ=ON || return 1
    ninja -C build-fuzz || return 1
    for fuzzer in build-fuzz/test/fuzz_*; do
        [ -x "$fuzzer" ] || continue
        name=$(basename "$fuzzer")
        found=build-fuzz/found/${name#fuzz_}
        mkdir -p "$found"
        "${fixed_addresses[@]}" "$fuzzer" -max_total_time=60 -print_final_stats=1 \
            -artifact_prefix="$found-" "$found" "test/fuzz/corpus/${name#fuzz_}" || return 1
    done
}

# Whoever called sudo wants to build on without it.
give_back() {
    if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_UID:-}" ]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" build build-* 2>/dev/null || true
    fi
}

summary() {
    local name
    give_back
    echo
    for name in "${broken_steps[@]}"; do
        echo "failed step: $name"
    done
    failed=$((failed + ${#broken_steps[@]}))
    echo "$((SECONDS / 60)) min $((SECONDS % 60)) s"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

if [ $install_deps = yes ]; then
    say "packages"
    contrib/deps.sh || exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    export HAWSER_NO_SKIP=1
else
    echo "Not root: the network tests will say that they are skipped. 'sudo contrib/check.sh' runs them." >&2
fi
plain_part
if [ $extent != quick ]; then
    step "shellcheck" check_scripts
    step "cppcheck" check_cppcheck
    sanitizer_part
fi
if [ $extent = long ]; then
    step "gcc -fanalyzer" analyzer_build
    step "clang-tidy" check_tidy
    step "fuzzers, a minute each" run_fuzzers
    step "100,000 faults in two stores" build/test/test_faults 100000
    if [ "$(id -u)" -eq 0 ]; then
        step "200 kills and other faults of two nodes" \
            env PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 test/net/test_kills.py 200
    fi
fi
summary
