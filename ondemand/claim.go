package ondemand

import "time"

// slowAnswer is how long a request may wait for its source before others get its slot of the engine's. Its host's slot it keeps. So hosts that do not answer stand in nobody
// else's way, however many of them there are.
const slowAnswer = 2 * time.Second

// queues are the slots that the job needs, in the order in which they are taken: its host's, and the engine's.
func (j *job) queues() []*slots { return []*slots{j.source.lane.slots, j.b.engine.slots} }

// enqueue puts the job behind the others of its class, so that jobs run in the order in which they were launched. The caller holds b.mu.
func (j *job) enqueue() {
	c := j.now()
	j.tickets = []*ticket{newTicket(c), newTicket(c)}
	j.queues()[0].enqueue(j.tickets[0])
}

// now is why the job fetches at this moment. The caller holds b.mu.
func (j *job) now() class {
	if j.urgent {
		return demand
	}
	return j.class
}

// acquire gets the job the slots that it is enqueued for, or will be. The returned function gives them back.
func (j *job) acquire() (release func(), err error) {
	b, queues := j.b, j.queues()
	b.mu.Lock()
	if j.tickets == nil {
		j.enqueue()
	}
	tickets := j.tickets
	b.mu.Unlock()
	release = func() {
		b.mu.Lock()
		tickets := j.tickets
		j.tickets = nil
		b.mu.Unlock()
		for k := len(tickets) - 1; k >= 0; k-- {
			queues[k].release(tickets[k])
		}
	}
	err = queues[0].wait(b.ctx, tickets[0])
	if err == nil {
		err = queues[1].acquire(b.ctx, tickets[1])
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// patiently calls wait, which waits for the source. If that takes long, others get the engine's slot meanwhile, and idle fetches are not held back for the job any more; before it goes
// on, it gets a slot again.
func (j *job) patiently(wait func() error) error {
	b := j.b
	over, left := false, false // guarded by b.mu
	timer := time.AfterFunc(slowAnswer, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if over {
			return
		}
		left, j.slow = true, true
		j.unhold()
		b.engine.slots.release(j.tickets[1])
	})
	err := wait()
	if timer.Stop() {
		return err
	}
	b.mu.Lock()
	over, j.slow = true, false
	if !left || err != nil {
		b.mu.Unlock()
		return err
	}
	t := newTicket(j.now())
	j.tickets[1] = t
	b.mu.Unlock()
	return b.engine.slots.acquire(b.ctx, t)
}
