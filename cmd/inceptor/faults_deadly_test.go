package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream/streamtest"
)

// Greys of images that the model of TestFaults does not survive.
const (
	crashingGrey = 255
	hungryGrey   = 253
)

// keptOfKey is how much of a key a dead letter has that is not taken whole.
const keptOfKey = 256

// maxResident is how much memory a process may take before the test kills it,
// as the kernel would: far more than a service needs, and less than the model
// takes for a hungry image.
const maxResident = 1 << 30

// largeKey sends a key that the outputs do not take: a dead letter has its beginning.
func (f *faults) largeKey() {
	f.Helper()
	prefix, number := f.upstream.next("large")
	m := picture(prefix+strings.Repeat("-", 3<<20), number)
	m.label, m.reason = "", "refused-by-broker"
	f.sendAlone(m, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(50<<20))
}

// bomb sends a batch that must not be decompressed.
func (f *faults) bomb() {
	f.Helper()
	f.sendAlone(message{make([]byte, 500<<10), sent{reason: "unread-batch"}}, streamtest.Bomb(200<<20))
}

// deadly sends an image that the process does not survive, in some company.
func (f *faults) deadly(grey byte) {
	for range f.rng.IntN(3) {
		key, number := f.upstream.next("between")
		f.upstream.send(picture(key, number))
	}
	key, _ := f.upstream.next("deadly")
	f.upstream.send(message{bitmap(grey), sent{key: key, reason: "crashed"}})
}

// sendAlone sends with a client of its own.
func (f *faults) sendAlone(m message, opts ...kgo.Opt) {
	f.Helper()
	client := newClient(f.T, f.brokers, opts...)
	ctx, cancel := context.WithTimeout(f.Context(), recovery)
	defer cancel()
	r := m.record()
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		f.Fatalf("send %.20s: %v", m.key, err)
	}
	f.upstream.keep(r, m.sent)
	client.Close()
}

// A supervised process may die of a record, at any time.
type supervised struct {
	*process
	hungry atomic.Bool // it took too much memory, and was killed for that
}

// watchMemory kills the process when it takes too much memory.
func watchMemory(p *process) *supervised {
	s := &supervised{process: p}
	go func() {
		statm := fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid)
		for ; ; time.Sleep(20 * time.Millisecond) {
			var total, resident int
			b, err := os.ReadFile(statm)
			if err != nil {
				return // it has ended
			}
			if _, err := fmt.Sscan(string(b), &total, &resident); err == nil && resident*os.Getpagesize() > maxResident {
				s.hungry.Store(true)
				_ = p.cmd.Process.Kill()
				return
			}
		}
	}()
	return s
}

// diedOfRecord tells whether a process that has ended did so because of a
// record.
func (p *supervised) diedOfRecord() bool {
	return p.hungry.Load() || strings.Contains(p.output(), "a white pixel")
}

// runsHang lets the model's runs hang, at times for longer than a run may take:
// the file that it reads is a pipe then. The services are restarted, since a
// run that hangs does not end by itself.
func (f *faults) runsHang() {
	f.Helper()
	pause := f.between(time.Second, 5*time.Second)
	if f.rng.IntN(3) == 0 {
		pause += 33 * time.Second
	}
	f.remark("for %v", pause.Round(time.Millisecond))
	hangOn(f.T, f.needed)
	time.Sleep(pause)
	runOn(f.T, f.needed)
	end := f.terminate
	if f.rng.IntN(2) == 0 {
		end = f.kill
	}
	for i, p := range f.services {
		end(p)
		f.services[i] = f.start(f.journal)
	}
}

// await waits for an output, or until the process dies of a record.
func (f *faults) await(p *supervised, pattern string) {
	f.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(recovery); !re.MatchString(p.output()) && !p.diedOfRecord(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.Fatalf("%s: after %q, the output does not match %q after %v", f.delivery, f.remarks, pattern, recovery)
		}
	}
}

func (f *faults) kill(p *supervised) {
	f.Helper()
	f.signal(p, syscall.SIGKILL)
	<-p.done
}

// signal sends a signal, if the process is not dead.
func (f *faults) signal(p *supervised, s syscall.Signal) {
	f.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		f.Fatal(err)
	}
}

// terminate sends SIGTERM. The process ends well, or dies of a record before.
func (f *faults) terminate(p *supervised) {
	f.Helper()
	f.await(p, "msg=") // before, it does not heed signals, and just ends
	f.signal(p, syscall.SIGTERM)
	if code := p.wait(40 * time.Second); code != 0 && !p.diedOfRecord() {
		f.Errorf("%s: after %q, SIGTERM: exit status %d", f.delivery, f.remarks, code)
	}
}
