package lab

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// Stargz is stargz-snapshotter and a containerd that uses it.
type Stargz struct {
	*Containerd
	service *Service
	dir     string
}

// StartStargz starts both with everything they keep below dir, which must exist and have nothing else in it. They run until Stop is called.
func StartStargz(ctx context.Context, dir string) (*Stargz, error) {
	const name = "stargz"
	peers, err := Ours("bench-peers")
	if err != nil {
		return nil, err
	}
	s := &Stargz{dir: dir}
	socket := filepath.Join(dir, "stargz.sock")
	if s.service, err = StartService(Command(context.WithoutCancel(ctx), peers, name, socket, filepath.Join(dir, name))); err != nil {
		return nil, err
	}
	if err := s.service.Await(ctx, 20*time.Second, answers(socket)); err != nil {
		return nil, errors.Join(err, s.service.Stop())
	}
	if s.Containerd, err = StartContainerd(ctx, dir, name, socket); err != nil {
		return nil, errors.Join(err, s.service.Stop())
	}
	return s, nil
}

// Stop ends both. The snapshotter leaves its mounts, without which nothing of it could be deleted; told to end, it sometimes takes more than ten seconds.
func (s *Stargz) Stop() error {
	return errors.Join(s.Containerd.Stop(), UnmountBelow(s.dir), s.service.Kill())
}
