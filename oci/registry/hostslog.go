package registry

import (
	"io"
	"log/slog"

	clog "github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// quietly returns a logger of containerd's kind that writes to ours. Its reader of hosts.toml complains there, and goes on, when the file cannot be parsed.
func quietly(log *slog.Logger) *clog.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.AddHook(forward{log})
	return logrus.NewEntry(l)
}

// forward is a hook that passes warnings and errors on.
type forward struct{ log *slog.Logger }

// Levels implements logrus.Hook.
func (forward) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel, logrus.WarnLevel} }

// Fire implements logrus.Hook.
func (f forward) Fire(e *logrus.Entry) error {
	attrs := make([]any, 0, 2*len(e.Data))
	for k, v := range e.Data {
		attrs = append(attrs, k, v)
	}
	f.log.Warn(e.Message, attrs...)
	return nil
}
