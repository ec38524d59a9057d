package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pagein/pagein/report"
)

// Trace runs a command to its end, and writes what it touches first of an image that the node has mounted into a file, as a profile.
func (n *Node) Trace(ctx context.Context, profile string, args ...string) error {
	_, err := n.run(ctx, append([]string{"trace", "-o", profile, "--"}, args...)...)
	return err
}

// Recording is a pagein trace that runs until Stop is called.
type Recording struct{ service *Service }

// TraceNext records what the next container of an image touches first, into a file. When it returns, the container may be started.
func (n *Node) TraceNext(ctx context.Context, profile, ref string) (*Recording, error) {
	s, err := StartService(Command(context.WithoutCancel(ctx), n.pagein, "--address", n.address, "trace", "-o", profile, "--image", ref))
	if err != nil {
		return nil, err
	}
	recording := func(context.Context) error {
		if !strings.Contains(s.log.String(), "recording, by") {
			return errors.New("it does not record yet")
		}
		return nil
	}
	if err := s.Await(ctx, 20*time.Second, recording); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return &Recording{s}, nil
}

// Stop ends the recording, and returns when the profile is written.
func (r *Recording) Stop() error {
	if err := r.service.Stop(); err != nil {
		return err
	}
	<-r.service.done
	if r.service.err != nil {
		return failed(r.service.cmd, r.service.err, r.service.log.String())
	}
	return nil
}

// MountWhole mounts an image on an existing directory, and returns when all of its data is on this machine.
func (n *Node) MountWhole(ctx context.Context, ref, target string) error {
	if _, err := n.run(ctx, "mount", "--prefetch", "all", ref, target); err != nil {
		return err
	}
	here := func(ctx context.Context) error {
		status, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for _, image := range status.Images {
			if image.PresentBytes != image.TotalBytes {
				return fmt.Errorf("%s: %d of %d bytes are here", image.Ref, image.PresentBytes, image.TotalBytes)
			}
		}
		return nil
	}
	return n.daemon.Await(ctx, 2*time.Minute, here)
}

// Waits tells what readers of an image waited for that is mounted on a directory.
func (n *Node) Waits(ctx context.Context, target string) (report.Waits, error) {
	var explained struct {
		Waits report.Waits `json:"waits"`
	}
	data, err := n.run(ctx, "explain", "--json", target)
	if err != nil {
		return explained.Waits, err
	}
	if err := json.Unmarshal(data, &explained); err != nil {
		return explained.Waits, fmt.Errorf("read what pagein explain --json printed: %w", err)
	}
	return explained.Waits, nil
}
