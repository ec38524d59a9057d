package vmtests

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// testResult is what one test of a guest came to.
type testResult struct {
	name   string
	action string // pass, fail, skip, or "" if it never ended
	output string
	took   string // such as "1.50s"
	subs   []*testResult
}

// testResults are the top-level tests of one package, in the order they began.
type testResults struct {
	tests  []*testResult
	output string // what belongs to no test
}

// parseTests turns the output of a test binary that ran with -test.v=test2json into results.
func parseTests(ctx context.Context, pkg string, raw io.Reader) (testResults, error) {
	var results testResults
	cmd, err := command(ctx, "", "go", "tool", "test2json", "-p", pkg)
	if err != nil {
		return results, err
	}
	var events, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = raw, &events, &stderr
	if err := explain(cmd, cmd.Run(), stderr.String()); err != nil {
		return results, err
	}
	byName := make(map[string]*testResult)
	lines := bufio.NewReader(&events)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return results, err
		}
		if err := results.add(byName, line); err != nil {
			return results, err
		}
	}
}

// add takes one event of test2json in.
func (rs *testResults) add(byName map[string]*testResult, line []byte) error {
	var e struct{ Action, Test, Output string }
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("read %q: %w", line, err)
	}
	if e.Test == "" {
		rs.output += e.Output
		return nil
	}
	r := byName[e.Test]
	if r == nil {
		r = &testResult{name: e.Test}
		byName[e.Test] = r
		if parent := parentOf(byName, e.Test); parent != nil {
			r.name = strings.TrimPrefix(e.Test, parentName(byName, e.Test)+"/")
			parent.subs = append(parent.subs, r)
		} else {
			rs.tests = append(rs.tests, r)
		}
	}
	switch e.Action {
	case "output":
		verdict, took, isVerdict := strings.Cut(strings.TrimSpace(e.Output), " (")
		switch {
		case isVerdict && strings.HasPrefix(verdict, "--- "):
			r.took = strings.TrimSuffix(took, ")")
		case !strings.HasPrefix(e.Output, "=== "): // what go test says again by itself
			r.output += e.Output
		}
	case "pass", "fail", "skip":
		r.action = e.Action
	}
	return nil
}

// parentName returns the longest known name that name is a subtest of: subtests' own names may contain slashes.
func parentName(byName map[string]*testResult, name string) string {
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if byName[name[:i]] != nil {
			return name[:i]
		}
	}
	return ""
}

func parentOf(byName map[string]*testResult, name string) *testResult {
	return byName[parentName(byName, name)]
}

func (rs testResults) failed() bool {
	for _, r := range rs.tests {
		if r.action != "pass" && r.action != "skip" {
			return true
		}
	}
	return false
}

// replay reports every test as a subtest of t.
func (rs testResults) replay(t *testing.T) {
	for _, r := range rs.tests {
		r.replay(t)
	}
}

func (r *testResult) replay(t *testing.T) {
	t.Run(r.name, func(t *testing.T) {
		for _, s := range r.subs {
			s.replay(t)
		}
		switch r.action {
		case "pass":
			t.Logf("took %s in the guest%s", r.took, r.figures())
		case "skip":
			t.Skip(r.output)
		case "fail":
			t.Errorf("failed in the guest after %s:\n%s", r.took, r.output)
		default:
			t.Errorf("did not end in the guest:\n%s", r.output)
		}
	})
}

// figures are the lines in which a test says what it measured, the only ones of interest when it passed.
func (r *testResult) figures() string {
	var figures strings.Builder
	for line := range strings.Lines(r.output) {
		if _, figure, ok := strings.Cut(line, "measured: "); ok {
			figures.WriteString("\n" + strings.TrimSpace(figure))
		}
	}
	return figures.String()
}

// TestResultsOfAGuestAreUnderstood feeds the parser with what a test binary prints, a binary that dies included.
func TestResultsOfAGuestAreUnderstood(t *testing.T) {
	const mark = "\x16"
	raw := mark + "=== RUN   TestA\n" + mark + "=== RUN   TestA/x/y\nhello" + mark + "--- PASS: TestA/x/y (0.50s)\n" + mark + "--- PASS: TestA (0.60s)\n" +
		mark + "=== RUN   TestB\n    b_test.go:1: no such thing\n" + mark + "--- SKIP: TestB (0.00s)\n" +
		mark + "=== RUN   TestC\n    c_test.go:1: wrong\n" + mark + "--- FAIL: TestC (0.00s)\n" +
		mark + "=== RUN   TestD\npanic: oh\n"
	got, err := parseTests(t.Context(), "p", strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var sb strings.Builder
	for _, r := range got.tests {
		fmt.Fprintf(&sb, "%s=%s ", r.name, r.action)
		for _, s := range r.subs {
			fmt.Fprintf(&sb, "[%s=%s %s %q] ", s.name, s.action, s.took, s.output)
		}
	}
	if want := "TestA=pass [x/y=pass 0.50s \"hello\"] TestB=skip TestC=fail TestD="; !strings.HasPrefix(sb.String(), want) {
		t.Errorf("got %q, want %q", sb.String(), want)
	}
	if !got.failed() || !strings.Contains(got.tests[1].output, "no such thing") || !strings.Contains(got.tests[3].output, "panic: oh") {
		t.Errorf("details are lost: %+v", got)
	}
}
