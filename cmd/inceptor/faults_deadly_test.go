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

// Greys of images that end the process of the model in TestFaults.
const (
	crashingGrey = 255
	hungryGrey   = 253
)

// keptOfKey is the number of bytes of a key that a dead letter keeps if the key is too large.
const keptOfKey = 256

// maxResident is the memory at which the test kills a process, as the kernel would. It is far more
// than a service needs, and less than the model takes for an image of hungryGrey.
const maxResident = 1 << 30

// largeKey sends a key that the outputs refuse. The dead letter keeps its beginning.
func (f *faultRun) largeKey() {
	f.Helper()
	prefix, number := f.upstream.name("large")
	m := picture(prefix+strings.Repeat("-", 3<<20), number)
	m.label, m.reason = "", "refused-by-broker"
	f.sendWithOwnClient(m, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(50<<20))
}

// bomb sends a small batch that is large when decompressed. It becomes a dead letter, unread.
func (f *faultRun) bomb() {
	f.Helper()
	f.sendWithOwnClient(message{make([]byte, 500<<10), sentRecord{reason: "unread-batch"}}, streamtest.Bomb(200<<20))
}

// deadly sends an image that ends the process, after a few others.
func (f *faultRun) deadly(grey byte) {
	for range f.rng.IntN(3) {
		key, number := f.upstream.name("between")
		f.upstream.send(picture(key, number))
	}
	key, _ := f.upstream.name("deadly")
	f.upstream.send(message{bitmap(grey), sentRecord{key: key, reason: "crashed"}})
}

// sendWithOwnClient sends a message with a client that has these options.
func (f *faultRun) sendWithOwnClient(m message, opts ...kgo.Opt) {
	f.Helper()
	client := newClient(f.T, f.brokers, opts...)
	ctx, cancel := context.WithTimeout(f.Context(), recovery)
	defer cancel()
	r := m.record()
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		f.Fatalf("send %.20s: %v", m.key, err)
	}
	f.upstream.remember(r, m.sentRecord)
	client.Close()
}

// A supervised process may die of a record at any time.
type supervised struct {
	*process
	hungry atomic.Bool // killed because it took too much memory; set by watchMemory
}

// watchMemory kills the process when it takes more than maxResident.
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

// diedOfRecord tells whether a record has ended the process.
func (p *supervised) diedOfRecord() bool {
	return p.hungry.Load() || strings.Contains(p.output(), "a white pixel")
}

// runsHang makes the model's runs hang, sometimes for longer than a run may take: its file is a
// pipe meanwhile. The services are restarted, since a hanging run does not end.
func (f *faultRun) runsHang() {
	f.Helper()
	pause := f.between(time.Second, 5*time.Second)
	if f.rng.IntN(3) == 0 {
		pause += 33 * time.Second
	}
	f.remark("for %v", pause.Round(time.Millisecond))
	blockRuns(f.T, f.needed)
	time.Sleep(pause)
	unblockRuns(f.T, f.needed)
	end := f.terminate
	if f.rng.IntN(2) == 0 {
		end = f.kill
	}
	for i, p := range f.services {
		end(p)
		f.services[i] = f.start(f.journal)
	}
}

// await waits until the output matches, or the process has died of a record.
func (f *faultRun) await(p *supervised, pattern string) {
	f.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(recovery); !re.MatchString(p.output()) && !p.diedOfRecord(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.Fatalf("%s: after %q, the output does not match %q after %v", f.delivery, f.remarks, pattern, recovery)
		}
	}
}

func (f *faultRun) kill(p *supervised) {
	f.Helper()
	f.signal(p, syscall.SIGKILL)
	<-p.done
}

// signal sends a signal. A process that has already ended is no error.
func (f *faultRun) signal(p *supervised, s syscall.Signal) {
	f.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		f.Fatal(err)
	}
}

// terminate sends SIGTERM. The process must end with status 0, unless it dies of a record before.
func (f *faultRun) terminate(p *supervised) {
	f.Helper()
	f.await(p, "msg=") // the first line: from here on it handles signals
	f.signal(p, syscall.SIGTERM)
	if code := p.wait(); code != 0 && !p.diedOfRecord() {
		f.Errorf("%s: after %q, SIGTERM: exit status %d", f.delivery, f.remarks, code)
	}
}
