package main

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
)

func (d *fakeDaemon) GC(_ context.Context, req control.GCRequest) (control.GCResponse, error) {
	d.asked = append(d.asked, req)
	return control.GCResponse{
		DryRun: req.DryRun, Bytes: 6 << 20,
		Evicted: []control.Evicted{
			{Kind: "blob", ID: strings.Repeat("ab", 32), Bytes: 5 << 20, Used: time.Now().Add(-50 * time.Hour)},
			{Kind: "meta", ID: strings.Repeat("cd", 32), Bytes: 1 << 20, Used: time.Now().Add(-time.Hour)},
		},
	}, nil
}

func TestGCAsksForWhatItIsToldAndSaysWhatWent(t *testing.T) {
	const list = "blob  abababababab  5.0 MiB  last used 2 days ago\nmeta  cdcdcdcdcdcd  1.0 MiB  last used 1 hour ago\n6.0 MiB "
	for _, c := range []struct {
		args   string
		status int
		want   control.GCRequest
		stdout string
	}{
		{"gc", exitSuccess, control.GCRequest{}, list + "given back\n"},
		{"gc --dry-run", exitSuccess, control.GCRequest{DryRun: true}, list + "would be given back\n"},
		{"gc --free 10MB", exitSuccess, control.GCRequest{Bytes: 10_000_000}, list + "given back\n"},
		{"gc --free lots", exitUsage, control.GCRequest{}, ""},
		{"gc everything", exitUsage, control.GCRequest{}, ""},
	} {
		d := &fakeDaemon{}
		status, stdout, stderr := pagein(t, append([]string{"pagein", "--address", serveFake(t, d)}, strings.Fields(c.args)...)...)
		if status != c.status || stdout != c.stdout {
			t.Errorf("%s: status %d\n%s%s", c.args, status, stdout, stderr)
		}
		if c.status == exitSuccess && !reflect.DeepEqual(d.asked, []any{c.want}) {
			t.Errorf("%s: asked for %+v", c.args, d.asked)
		}
	}
}
