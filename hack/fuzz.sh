#!/bin/sh
# Runs every fuzz target of the module, one after the other, and says how often each was executed.
#
#   hack/fuzz.sh [TIME [PATTERN]]    TIME for each target (default: 20s); PATTERN: a regular expression that "PACKAGE/TARGET" must match
#
# New inputs that reach new code grow the corpus in go's build cache ("go env GOCACHE", below fuzz), from where the next run goes on. An input
# that fails is written to testdata/fuzz of its package, where "go test" tries it from then on: commit it with the fix.
set -eu

time=${1:-20s}
pattern=${2:-.}
cd "$(dirname -- "$0")/.."

out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM

targets=$(grep -rE --include='*_test.go' --exclude-dir=.git --exclude-dir=.tools -o '^func Fuzz[[:alnum:]_]*\(' . |
	sed -E 's|^(.*)/[^/]*:func (.*)\(|\1/\2|' | sort | grep -E -- "$pattern") || {
	echo "fuzz: no target matches $pattern" >&2
	exit 2
}

failed=
for target in $targets; do
	package=${target%/*}
	name=${target##*/}
	status=0
	# Minimizing what is interesting would take most of a short run.
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel 2 "$package" >"$out" 2>&1 || status=$?
	execs=$(sed -n 's/^fuzz: elapsed: .* execs: \([0-9]*\) .*/\1/p' "$out" | tail -n 1)
	corpus=$(sed -n 's/^fuzz: elapsed: .* \(new interesting: .*\)/\1/p' "$out" | tail -n 1)
	if [ "$status" -ne 0 ]; then
		cat "$out"
		echo "FAIL $target: see above"
		failed="$failed $target"
	elif [ "${execs:-0}" -eq 0 ]; then
		cat "$out"
		echo "FAIL $target: it was not executed once in $time"
		failed="$failed $target"
	else
		printf 'ok   %-44s %9d executions, %s\n' "$target" "$execs" "$corpus"
	fi
done
[ -z "$failed" ] || {
	echo "fuzz: failed:$failed" >&2
	exit 1
}
