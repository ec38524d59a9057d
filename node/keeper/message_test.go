package keeper

import (
	"strings"
	"testing"
)

func TestNotificationsAreReadAsSystemdReadsThem(t *testing.T) {
	long := strings.Repeat("n", MaxName)
	for _, c := range []struct {
		text string
		want message
		bad  bool
	}{
		{text: string(storeMessage("group.0")), want: message{verbStore, "group.0"}},
		{text: string(removeMessage(long)), want: message{verbRemove, long}},
		{text: string(barrierMessage()), want: message{verbBarrier, ""}},
		{text: string(attachMessage()), want: message{verbAttach, ""}},
		{text: "READY=1\nSTATUS=FDSTORE=1", want: message{}},
		{text: "FDNAME=x\nREADY=1\nFDSTORE=1\n", want: message{verbStore, "x"}},
		{text: "FDSTORE=0\nFDNAME=x", want: message{}},
		{text: "", want: message{}},
		{text: "FDSTORE=1", bad: true},
		{text: "FDSTORE=1\nFDNAME=", bad: true},
		{text: "FDSTORE=1\nFDNAME=" + long + "n", bad: true},
		{text: "FDSTORE=1\nFDNAME=a:b", bad: true},
		{text: "FDSTORE=1\nFDNAME=a\x00b", bad: true},
		{text: "FDSTORE=1\nFDNAME=\xff", bad: true},
		{text: "FDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=x", bad: true},
		{text: "BARRIER=1\n" + strings.Repeat("x", maxDatagram), bad: true},
	} {
		got, err := parseMessage([]byte(c.text))
		if (err != nil) != c.bad || !c.bad && got != c.want {
			t.Errorf("%.80q: got %+v, %v", c.text, got, err)
		}
	}
}

func TestPacketsMustAddUp(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
		bad  bool
	}{
		{text: string(packetMessage([]string{"a", "b"})), n: 2, want: "a,b"},
		{text: string(packetMessage(nil)), n: 0},
		{text: "LISTEN_FDS=2\nLISTEN_FDNAMES=a", n: 2, bad: true},
		{text: "LISTEN_FDS=2\nLISTEN_FDNAMES=a:b", n: 1, bad: true},
		{text: "LISTEN_FDS=1\nLISTEN_FDNAMES=", n: 1, bad: true},
		{text: "LISTEN_FDS=-1\nLISTEN_FDNAMES=", n: 0, bad: true},
		{text: "LISTEN_FDS=x\nLISTEN_FDNAMES=a", n: 1, bad: true},
		{text: "", n: 0, bad: true},
	} {
		names, err := parsePacket([]byte(c.text), c.n)
		if (err != nil) != c.bad || !c.bad && strings.Join(names, ",") != c.want {
			t.Errorf("%q with %d: got %v, %v", c.text, c.n, names, err)
		}
	}
}

func FuzzNotification(f *testing.F) {
	f.Add(storeMessage("x"))
	f.Add(removeMessage("y"))
	f.Add([]byte("BARRIER=1\nBARRIER=1\n\n=\n=1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMessage(data)
		if err != nil {
			return
		}
		switch m.verb {
		case verbStore, verbRemove:
			if checkName(m.name) != nil {
				t.Errorf("%q: accepted with the name %q", data, m.name)
			}
		case verbNone, verbBarrier, verbAttach:
			if m.name != "" {
				t.Errorf("%q: %+v", data, m)
			}
		}
	})
}

func FuzzPacket(f *testing.F) {
	f.Add(packetMessage([]string{"a", "b"}), 2)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		names, err := parsePacket(data, n)
		if err == nil && len(names) != n {
			t.Errorf("%q: %d names for %d descriptors", data, len(names), n)
		}
	})
}
