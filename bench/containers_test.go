package main

import (
	"flag"
	"io"
	"testing"
)

func TestRowsOfAWorkloadHaveTheirTargets(t *testing.T) {
	runs := func(seconds float64) *costs { return &costs{seconds: []float64{seconds}, megabytes: []float64{1}} }
	all := workloads()
	for _, c := range []struct {
		name, link string
		w          workload
		pulled     *costs
		want       []string // targets
	}{
		{"a short one over the slow link", "P2", all[0], runs(40), []string{"≤ 0.8", "≤ 0.02"}},
		{"over the fast link a full pull is no target", "P1", all[0], runs(12), []string{"≤ 0.8", ""}},
		{"without a full pull", "P2", all[0], new(costs), []string{"≤ 0.8"}},
		{"a long one has the link's rate", "P2", all[4], runs(40), []string{"≤ 0.85", "≥ 0.9", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := c.w.compare(c.link, "server", runs(0.5), runs(1), c.pulled)
			if len(rows) != len(c.want) {
				t.Fatalf("rows are %+v", rows)
			}
			for i, row := range rows {
				if row.Target != c.want[i] {
					t.Errorf("row %d has target %q, want %q", i, row.Target, c.want[i])
				}
			}
			if rows[0].Value != 0.5 {
				t.Errorf("the ratio is %v", rows[0].Value)
			}
		})
	}
}

func TestUnknownLinksAreRefusedAndKnownOnesChosen(t *testing.T) {
	for args, ok := range map[string]bool{"P1,P2": true, "P2": true, "P3": false, "": false} {
		var o containerOptions
		f := flag.NewFlagSet("bench", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		o.flags(f)
		if err := f.Parse([]string{"-links", args}); (err == nil) != ok {
			t.Errorf("-links %q: %v", args, err)
		}
		if ok && o.links.String() != args || len(o.workloads.names) != 6 {
			t.Errorf("-links %q chooses %v and %v", args, &o.links, &o.workloads)
		}
	}
}
