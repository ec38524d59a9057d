#!/bin/sh
# Runs every fuzz target of the module, as many at a time as there are processors, and says how often each was executed.
#
#   hack/fuzz.sh [TIME [PATTERN]]    TIME for each target (default: 20s); PATTERN: a regular expression that "PACKAGE/TARGET" must match
#
# New inputs that reach new code grow the corpus in go's build cache ("go env GOCACHE", below fuzz), from where the next run goes on. An input
# that fails is written to testdata/fuzz of its package, where "go test" tries it from then on: commit it with the fix.
set -eu

cd "$(dirname -- "$0")/.."

# one TIME TARGET: fuzzes one target. All it says is said in one piece, as others run at the same time.
one() {
	package=${2%/*}
	name=${2##*/}
	status=0
	# Minimizing what is interesting would take most of a short run.
	out=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" -fuzzminimizetime 10x -parallel 1 "$package" 2>&1) || status=$?
	# While the corpus is tried, what is counted is called something else.
	execs=$(printf '%s\n' "$out" | sed -n -e 's/^fuzz: elapsed: .* execs: \([0-9]*\) .*/\1/p' -e 's|^fuzz: elapsed: .* coverage: \([0-9]*\)/.*|\1|p' | sort -n | tail -n 1)
	corpus=$(printf '%s\n' "$out" | sed -n 's/^fuzz: elapsed: .* \(new interesting: .*\)/\1/p' | tail -n 1)
	case $out in
	*"Failing input"* | *panic:*) ;;
	*"context deadline exceeded"*) status=0 ;; # the time was up while the corpus was tried or an input minimized: no failure
	esac
	if [ "$status" -ne 0 ]; then
		printf '%s\nFAIL %s: see above\n' "$out" "$2"
		return 1
	elif [ "${execs:-0}" -eq 0 ]; then
		printf '%s\nFAIL %s: it was not executed once in %s\n' "$out" "$2" "$1"
		return 1
	fi
	printf 'ok   %-44s %9d executions, %s\n' "$2" "$execs" "${corpus:-the corpus alone}"
}

if [ "${1:-}" = --one ]; then
	one "$2" "$3"
	exit
fi

time=${1:-20s}
pattern=${2:-.}
targets=$(grep -rE --include='*_test.go' --exclude-dir=.git --exclude-dir=.tools -o '^func Fuzz[[:alnum:]_]*\(' . |
	sed -E 's|^(.*)/[^/]*:func (.*)\(|\1/\2|' | sort | grep -E -- "$pattern") || {
	echo "fuzz: no target matches $pattern" >&2
	exit 2
}
printf '%s\n' "$targets" | xargs -n 1 -P "$(nproc)" hack/fuzz.sh --one "$time" || {
	echo "fuzz: failed: see the lines with FAIL" >&2
	exit 1
}
