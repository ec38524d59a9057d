package main

import (
	"fmt"
	"log/slog"
	"regexp"
)

// secrets matches what may give access: the queries of URLs, in which signatures are, user names and passwords in URLs, and authorization headers. It is a constant.
var secrets = regexp.MustCompile(`(https?://|s3://)(?:[^/@\s"]+@)?([^?\s"]*)\?[^\s"]*` + `|(https?://|s3://)[^/@\s"]+@` + `|(?i:(bearer|basic))\s+[A-Za-z0-9._~+/=-]{8,}`)

// redact takes secrets from what is logged. Nothing should have put them there; this is for what somebody forgets, and for what libraries say.
//
// Durations get their units also in JSON.
func redact(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	if k := a.Value.Kind(); k != slog.KindString && k != slog.KindAny {
		return a
	}
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(plain(v))
	case error:
		a.Value = slog.StringValue(plain(v.Error()))
	case fmt.Stringer:
		a.Value = slog.StringValue(plain(v.String()))
	}
	return a
}

// plain is a text without secrets.
func plain(s string) string {
	return secrets.ReplaceAllStringFunc(s, func(found string) string {
		m := secrets.FindStringSubmatch(found)
		switch {
		case m[1] != "":
			return m[1] + m[2] + "?…"
		case m[3] != "":
			return m[3]
		}
		return m[4] + " …"
	})
}
