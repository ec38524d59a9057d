package main

import (
	"fmt"
	"log/slog"

	"github.com/pagein/pagein/oci/trust"
)

// trustTable is the table [trust]: what its policies do not decide, it decides itself, as one more of them.
type trustTable struct {
	trustRule
	Policy []trustRule `toml:"policy"`
}

// trustRule is a table of [[trust.policy]], and the keys of [trust] that are the same.
type trustRule struct {
	Repositories []string `toml:"repositories"`
	Keys         []string `toml:"keys"`
	Command      []string `toml:"command"`
}

// open makes a policy of the tables.
func (t trustTable) open() (*trust.Policy, error) {
	var rules []trust.Rule
	for _, r := range t.Policy {
		rules = append(rules, trust.Rule(r))
	}
	if len(t.Repositories) > 0 || t.Keys != nil || t.Command != nil { // an empty list of what is demanded is a mistake, which trust.New explains
		rules = append(rules, trust.Rule(t.trustRule))
	}
	policy, err := trust.New(rules...)
	if err != nil {
		return nil, fmt.Errorf("[trust]: %w", err)
	}
	return policy, nil
}

// warnOfKeys tells of keys that are configured and cannot be read.
func warnOfKeys(policy *trust.Policy, log *slog.Logger) {
	for _, err := range policy.Problems() {
		log.Warn("what is signed with a key that cannot be read is not trusted", "err", err)
	}
}
