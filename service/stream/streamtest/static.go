package streamtest

import (
	"strings"
	"testing"
	"time"
)

// static restarts one of two members with instance ids. The other one must go on in the same
// generation, and the one that comes back must get its partition again.
func static(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	start := func(name string) *running {
		cfg := b.config()
		cfg.Instance, cfg.Session = name, 20*time.Second
		return b.start(cfg, b.echo)
	}
	first, second := start("first"), start("second")
	one := func(r *recorder) bool { return len(r.assigned) == 1 }
	b.until("a partition each", func() bool { return first.check(one) && second.check(one) })
	b.fill(2, 0, 5)
	b.read(b.output, 10)
	var had, before int
	first.check(func(r *recorder) bool { had = r.assigned[0].ID; return true })
	second.check(func(r *recorder) bool { before = r.generations; return true })
	first.stop()
	first = start("first")
	b.until("its partition again", func() bool { return first.check(one) })
	b.fill(2, 5, 5)
	b.complete(t, b.read(b.output, 20), 2, 10)
	if !first.check(func(r *recorder) bool { return r.assigned[0].ID == had }) {
		t.Errorf("it has another partition than %d", had)
	}
	if !second.check(func(r *recorder) bool { return r.generations == before }) {
		t.Error("the other member has seen a new generation")
	}
	first.stop()
	second.stop()
}

// fencedInstance starts a second process with the instance id of the first. The first must end,
// and say why.
func fencedInstance(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	cfg := b.config()
	cfg.Instance = "pod-0"
	first := b.start(cfg, b.echo)
	b.until("the assignment", func() bool { return first.check(func(r *recorder) bool { return len(r.assigned) == 1 }) })
	second := b.start(cfg, b.echo)
	err := first.ended()
	if err == nil || !strings.Contains(err.Error(), "another process has kafka.instance-id pod-0") {
		t.Errorf("run: %v", err)
	}
	b.fill(1, 0, 5)
	b.read(b.output, 5)
	second.stop()
}

// sessionRefused asks for a session that is shorter than the broker allows.
func sessionRefused(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	cfg := b.config()
	cfg.Session = 100 * time.Millisecond
	err := b.start(cfg, b.echo).ended()
	if err == nil || !strings.Contains(err.Error(), "kafka.session-timeout of 100ms") || !strings.Contains(err.Error(), "group.min.session.timeout.ms") {
		t.Errorf("run: %v", err)
	}
}
