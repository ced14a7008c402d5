package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// patience is for what must happen in the end. It is generous, since the machine may be busy with
// other tests: a test that waits for so long has failed.
const patience = 5 * time.Minute

// asProgram makes the test binary behave as inceptor, so that tests run real processes of the code
// under test, with the race detector.
const asProgram = "TEST_AS_INCEPTOR"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	flag.Parse()
	// More than there are processors, since most tests wait for processes that start or settle.
	// What loads a large version while another one serves is not parallel, or uses
	// startAtNormalPriority: such a load gets only idle processor time.
	flag.Set("test.parallel", "6")
	os.Exit(m.Run())
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// A process is a running inceptor. Only the test's goroutine uses it, except for the log.
type process struct {
	// Set once.
	t    *testing.T
	cmd  *exec.Cmd
	done chan error // gets the result of Wait

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startCommand(t, program(args...))
}

// startWithoutFileEvents starts a process that the system gives no file events: in a namespace that
// allows none.
func startWithoutFileEvents(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := program(args...)
	cmd.Args = append([]string{"sh", "-c", `echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"`, "sh", cmd.Path}, args...)
	cmd.Path = "/bin/sh"
	isolateUser(cmd, 0)
	return startCommand(t, cmd)
}

// startAtNormalPriority starts a process that loads versions with the priority of everything else,
// as one does that may not leave the lowest scheduling class again: in a user namespace of its own.
// In that class it would get no time from the tests that run in parallel.
func startAtNormalPriority(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := program(args...)
	isolateUser(cmd, 0)
	return startCommand(t, cmd)
}

// isolateUser gives a process a user namespace of its own, in which it may do what root may. Flags
// add further namespaces.
func isolateUser(cmd *exec.Cmd, flags uintptr) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | flags
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
}

// startCommand starts a process whose output is kept. Standard error can have a writer of its own.
func startCommand(t *testing.T, cmd *exec.Cmd, stderr ...io.Writer) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if len(stderr) > 0 {
		p.cmd.Stderr = stderr[0]
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		// SIGQUIT prints what its goroutines wait for.
		if t.Failed() && p.cmd.Process.Signal(syscall.SIGQUIT) == nil {
			time.Sleep(time.Second)
		}
		_ = p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("%v:\n%s", cmd.Args, p.output())
		}
	})
	return p
}

// await waits until the output matches, and returns the last submatch.
func (p *process) await(pattern string, limit time.Duration) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if m := re.FindStringSubmatch(p.output()); m != nil {
			return m[len(m)-1]
		}
		select {
		case err := <-p.done:
			p.t.Fatalf("ended with %v before its output matched %q", err, pattern)
		default:
		}
	}
	p.t.Fatalf("output does not match %q after %v", pattern, limit)
	return ""
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.done
}

// terminate sends SIGTERM and returns the exit status. It waits for the first log line: before, the
// program does not handle signals.
func (p *process) terminate() int {
	p.t.Helper()
	p.await("msg=", patience)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

// wait returns the exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case err := <-p.done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("still runs after %v", patience)
		return -1
	}
}

// A follower collects the records of topics from their beginning.
type follower struct {
	mu      sync.Mutex
	records map[string][]*kgo.Record // by topic; guarded by mu
}

func follow(t *testing.T, broker string, topics ...string) *follower {
	t.Helper()
	client := newClient(t, broker, kgo.ConsumeTopics(topics...))
	f := &follower{records: map[string][]*kgo.Record{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			fetches := client.PollFetches(ctx)
			f.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) { f.records[r.Topic] = append(f.records[r.Topic], r) })
			f.mu.Unlock()
		}
	}()
	return f
}

func (f *follower) from(topic string) []*kgo.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.records[topic])
}

// distinct counts the different ids in the topics.
func (f *follower) distinct(topics ...string) int {
	ids := map[string]bool{}
	for _, topic := range topics {
		for _, r := range f.from(topic) {
			ids[lastHeader(r, "inceptor-id")] = true
		}
	}
	return len(ids)
}

func lastHeader(r *kgo.Record, key string) string {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// awaitDistinct waits until the topics hold n different ids. It fails if no more have come for the
// limit: how fast records are answered depends on how busy the machine is.
func (f *follower) awaitDistinct(t *testing.T, n int, limit time.Duration, topics ...string) {
	t.Helper()
	end, before := time.Now().Add(limit), 0
	for {
		got := f.distinct(topics...)
		if got >= n {
			return
		}
		if got > before {
			end, before = time.Now().Add(limit), got
		}
		if time.Now().After(end) {
			t.Fatalf("%v hold %d different ids, and no more for %v, want %d", topics, got, limit, n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func newClient(t testing.TB, broker string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	// A broker learns of a new topic a little later than its creator.
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(strings.Split(broker, ",")...), kgo.UnknownTopicRetries(30))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func createTopics(t *testing.T, broker string, partitions int32, config map[string]string, topics ...string) {
	t.Helper()
	values := map[string]*string{}
	for _, k := range slices.Sorted(maps.Keys(config)) {
		v := config[k]
		values[k] = &v
	}
	res, err := kadm.NewClient(newClient(t, broker)).CreateTopics(t.Context(), partitions, -1, values, topics...)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func produce(t *testing.T, broker string, records ...*kgo.Record) {
	t.Helper()
	if err := newClient(t, broker).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// get returns the status and body of a page.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// residentMB returns the resident memory of the process.
func (p *process) residentMB() int { return p.memoryMB("VmRSS") }

// memoryMB reads a field of the process's status: VmRSS, or VmHWM for the largest resident memory
// so far.
func (p *process) memoryMB(field string) int {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var kb int
	_, rest, _ := strings.Cut(string(b), field+":")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		p.t.Fatal(err)
	}
	return kb / 1024
}
