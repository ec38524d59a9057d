package trace

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestConditionsThatCannotBeReadAreRefused(t *testing.T) {
	for _, text := range []string{"port", "port:", "port:x", "port:65536", "log:(", "exec:", "time:", "time:soon", "time:-1s", "sunrise", "ready:now"} {
		if c, err := ParseCondition(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is read as %+v, %v", text, c, err)
		}
	}
}

func TestConditionsHoldWhenTheyDoAndNotBefore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	close(closed)
	w := Workload{PID: os.Getpid, Logged: closed}
	for _, text := range []string{"port:" + port, "exec:test -e " + there, "time:1ms", "log:x"} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(t.Context(), w); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	over, cancel := context.WithTimeout(t.Context(), 2*askEvery)
	defer cancel()
	w = Workload{PID: func() int { return 0 }, Logged: make(chan struct{})}
	for _, text := range []string{"", "port:" + port, "exec:test -e " + there + "not", "time:1h", "log:x"} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(over, w); err == nil {
			t.Errorf("%q holds already", text)
		}
	}
}

// TestTimeCountsFromTheBeginningOfTheWorkload has one that begins when it is asked for the second time.
func TestTimeCountsFromTheBeginningOfTheWorkload(t *testing.T) {
	c, err := ParseCondition("time:1ms")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	if err := c.Wait(t.Context(), Workload{Began: func() bool { asked++; return asked == 2 }}); err != nil || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	over, cancel := context.WithTimeout(t.Context(), 2*askEvery)
	defer cancel()
	if err := c.Wait(over, Workload{Began: func() bool { return false }}); err == nil {
		t.Error("it is over before it began")
	}
}

func TestOnlyListenersCountAsOpenPorts(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000
   2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0
`
	for port, want := range map[uint16]bool{8080: true, 8081: false, 80: true, 90: false, 0: false} {
		if got := listening(strings.NewReader(table), port); got != want {
			t.Errorf("port %s: %v", strconv.Itoa(int(port)), got)
		}
	}
}

func TestALineOfTheOutputIsFoundHoweverItComes(t *testing.T) {
	for _, pieces := range [][]string{{"starting\nrea", "dy\nmore\n"}, {"ready"}, {"x\nready\n"}} {
		c, err := ParseCondition("log:^ready$")
		if err != nil {
			t.Fatal(err)
		}
		var to bytes.Buffer
		found := 0
		l := &LogWriter{To: &to, Match: c.Log, Matched: func() { found++ }}
		for _, p := range pieces {
			if _, err := l.Write([]byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if found != 1 || to.String() != strings.Join(pieces, "") {
			t.Errorf("%q: found %d times, passed %q on", pieces, found, to.String())
		}
	}
}
