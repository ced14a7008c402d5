package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// A trial is one image in a container.
type trial struct {
	lab    *lab
	image  string
	memory string
	name   string // of the container, the group and the topics

	first         time.Duration // from the container's start to the first answer
	seen          memory        // after the last answer
	mostAnonymous int           // KiB
}

func (t *trial) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(t.lab.kafka.Addr()), kgo.ConsumeTopics(t.topic("answers"), t.topic("letters")))
	if err != nil {
		return err
	}
	defer client.Close()
	created, err := kadm.NewClient(client).CreateTopics(ctx, 1, 1, nil, t.topic("photos"), t.topic("answers"), t.topic("letters"))
	if err = errors.Join(err, created.Error()); err != nil {
		return err
	}
	sent, err := t.send(ctx, client)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := t.container(ctx, "run"); err != nil {
		return err
	}
	err = t.follow(ctx, client, began, sent)
	after := context.WithoutCancel(ctx)
	if err = errors.Join(err, t.stop(after)); err != nil {
		log, _ := t.do(after, "logs", t.name)
		err = fmt.Errorf("%w\n%s", err, log)
	}
	if _, removed := t.do(after, "rm", "--force", "--volumes", t.name); err != nil || removed != nil {
		return errors.Join(err, removed)
	}
	// After run, so that run's own limit of memory counts what is read of the libraries.
	_, err = t.container(ctx, "check")
	_, removed := t.do(after, "rm", "--force", "--volumes", t.name)
	return errors.Join(err, removed)
}

func (t *trial) topic(of string) string { return t.name + "-" + of }

// send sends the photos, again and again.
func (t *trial) send(ctx context.Context, client *kgo.Client) ([]testenv.Answer, error) {
	var sent []testenv.Answer
	for n := range t.lab.photos {
		want := t.lab.answers[n%len(t.lab.answers)]
		photo, err := os.ReadFile(want.File)
		if err != nil {
			return nil, err
		}
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: t.topic("photos"), Value: photo}).FirstErr(); err != nil {
			return nil, err
		}
		sent = append(sent, want)
	}
	return sent, nil
}

// container runs a command of inceptor as the image's user. Only the journal's volume can be
// written to.
func (t *trial) container(ctx context.Context, command string) (string, error) {
	args := []string{
		"run", "--name", t.name, "--network", "host", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges",
		"--volume", t.lab.model + ":/models/inception:ro", "--volume", "/var/lib/inceptor",
	}
	if t.lab.tool == "podman" {
		args = append(args, "--read-only-tmpfs=false") // docker has none either
	}
	if command == "run" {
		args = append(args, "--detach", "--memory", t.memory, "--memory-swap", t.memory)
	}
	args = append(args, t.image, command,
		"--kafka.brokers", t.lab.kafka.Addr(), "--kafka.group", t.name, "--kafka.input", t.topic("photos"),
		"--kafka.output", t.topic("answers"), "--kafka.dead-letter", t.topic("letters"),
		"--http.listen", "127.0.0.1:0", "--crash.journal", "/var/lib/inceptor", "--model.state", "/var/lib/inceptor/state.json")
	return t.do(ctx, append(args, t.lab.settings...)...)
}

// do runs the tool, and returns what it prints.
func (t *trial) do(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, t.lab.tool, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s %s: %w\n%s", t.lab.tool, strings.Join(args, " "), err, text)
	}
	return text, nil
}

// follow reads an answer to each photo that was sent, and compares it with Python TensorFlow's.
func (t *trial) follow(ctx context.Context, client *kgo.Client, began time.Time, sent []testenv.Answer) error {
	pid, err := t.do(ctx, "inspect", "--format", "{{.State.Pid}}", t.name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		_, _ = t.do(ctx, "wait", t.name)
		cancel(errors.New("the service has ended"))
	}()
	answered := map[string]bool{}
	for len(answered) < len(sent) {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d answers: %w", len(answered), len(sent), context.Cause(ctx))
		}
		for r := range fetches.RecordsAll() {
			if t.first == 0 {
				t.first = time.Since(began)
			}
			id, err := t.check(r, sent)
			if err != nil {
				return err
			}
			answered[id] = true
			if t.seen, err = readMemory(pid); err != nil {
				return err
			}
			t.mostAnonymous = max(t.mostAnonymous, t.seen.anonymous)
		}
	}
	return nil
}

// check compares an answer with that of Python TensorFlow, and returns its id.
func (t *trial) check(r *kgo.Record, sent []testenv.Answer) (string, error) {
	var a struct {
		ID          string `json:"id"`
		Predictions []struct {
			Index *int    `json:"index"`
			Score float64 `json:"score"`
		} `json:"predictions"`
	}
	if err := json.Unmarshal(r.Value, &a); err != nil || len(a.Predictions) == 0 {
		return "", fmt.Errorf("no answer: %s", r.Value)
	}
	offset, err := strconv.Atoi(a.ID[strings.LastIndexByte(a.ID, '-')+1:])
	if err != nil || offset >= len(sent) {
		return "", fmt.Errorf("%s answers nothing that was sent", a.ID)
	}
	for _, c := range a.Predictions {
		if want := sent[offset].Scores[*c.Index]; math.Abs(want-c.Score) > t.lab.within {
			return "", fmt.Errorf("%s: class %d has %v, not %v: %s", sent[offset].File, *c.Index, c.Score, want, r.Value)
		}
	}
	return a.ID, nil
}

// stop ends the service as an administrator does.
func (t *trial) stop(ctx context.Context) error {
	if _, err := t.do(ctx, "stop", "--time", "60", t.name); err != nil {
		return err
	}
	status, err := t.do(ctx, "inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", t.name)
	if err == nil && status != "0 false" {
		err = fmt.Errorf("exit status and whether memory was too small: %s", status)
	}
	return err
}

// memory is that of a process, in KiB.
type memory struct{ anonymous, file, peak int }

// readMemory reads that of the container's process, which must be without rights.
func readMemory(pid string) (memory, error) {
	file := "/proc/" + pid + "/status"
	status, err := os.ReadFile(file)
	if err != nil {
		return memory{}, fmt.Errorf("the service has ended: %w", err)
	}
	var m memory
	var user, capabilities, seccomp int
	for _, want := range []struct {
		field string
		value *int
	}{
		{"RssAnon", &m.anonymous}, {"RssFile", &m.file}, {"VmHWM", &m.peak},
		{"Uid", &user}, {"CapEff", &capabilities}, {"Seccomp", &seccomp},
	} {
		_, rest, _ := bytes.Cut(status, []byte("\n"+want.field+":"))
		if _, err := fmt.Sscan(string(rest), want.value); err != nil {
			return memory{}, fmt.Errorf("%s in %s: %w", want.field, file, err)
		}
	}
	if user, err = insideUser(pid, user); err != nil {
		return memory{}, err
	}
	if user != 65532 || capabilities != 0 || seccomp != 2 {
		return memory{}, fmt.Errorf("user %d, capabilities %d, seccomp %d: want 65532, 0, 2", user, capabilities, seccomp)
	}
	return m, nil
}

// insideUser returns what a user of this machine is called in a process's container. With podman
// without root they differ.
func insideUser(pid string, user int) (int, error) {
	file := "/proc/" + pid + "/uid_map"
	ranges, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(ranges)) {
		var inside, outside, count int
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err != nil {
			return 0, fmt.Errorf("%s: %q: %w", file, line, err)
		}
		if outside <= user && user < outside+count {
			return inside + user - outside, nil
		}
	}
	return 0, fmt.Errorf("%s does not have user %d", file, user)
}
