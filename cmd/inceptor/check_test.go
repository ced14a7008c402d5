package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"inceptor/service"
	"inceptor/testenv"
)

// check reports brokers that would refuse the session.
func TestCheckSession(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t, "group.min.session.timeout.ms=10000")
	createTopics(t, broker.Addr(), 1, nil, inputTopic, outputTopic, deadLetterTopic)
	for _, test := range []struct {
		session string
		code    int
		want    string
	}{
		{"6s", 1, "kafka.session-timeout of 6s is not within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms: set it from 10s to 30m0s"},
		{"10s", 0, "ok    group inceptor: may be joined, with a session of 10s"},
	} {
		code, stdout, stderr := execute(t, "check", "--kafka.brokers", broker.Addr(), "--model.dir", testenv.Tiny(t), "--model.name", "tiny",
			"--http.listen", "127.0.0.1:0", "--kafka.session-timeout", test.session)
		if code != test.code || !strings.Contains(stdout, test.want) {
			t.Errorf("session of %s: exit status %d\n%s%s", test.session, code, stdout, stderr)
		}
	}
}

// A checkTest breaks one thing for a check.
type checkTest struct {
	args []string
	want []string // the lines that begin with FAIL
	warn []string // lines that must be there besides
}

// Each broken thing gives one line that says what to do, and nothing else fails.
func TestCheckBroken(t *testing.T) {
	t.Parallel()
	b := testenv.StartSecuredBroker(t, testenv.SecuredOptions{})
	allowForCheck(t, b)
	dir := t.TempDir()
	other := filepath.Join(dir, "other-ca.pem")
	file := filepath.Join(dir, "file")
	for path, content := range map[string][]byte{
		other: testenv.NewAuthority(t, "another").PEM, file: nil,
		filepath.Join(dir, "broken.json"): []byte("{"), filepath.Join(dir, "empty", "1", "readme"): nil,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	down := testenv.FreeAddress(t)
	tls := []string{"--kafka.tls.enabled", "--kafka.tls.ca", b.AuthoritiesPEM}
	login := []string{"--kafka.sasl.mechanism", "SCRAM-SHA-512", "--kafka.sasl.user", b.User, "--kafka.sasl.password", b.Password}
	secured := slices.Concat(tls, login) // with brokers of its own
	secure := slices.Concat(secured, []string{"--kafka.brokers", b.Secure})
	exactly := []string{"--kafka.delivery", "exactly_once"}
	with := func(args []string, more ...string) []string { return slices.Concat(args, more) }
	acls := "to allow it: kafka-acls.sh --bootstrap-server " + b.Secure + " --add --allow-principal User:me --operation "

	tests := map[string]checkTest{
		"nothing": {args: with(secure, exactly...), warn: []string{"ok    login SCRAM-SHA-512: accepted", "ok    group allowed: may be joined, with a session of 6s"}},
		"broker down": {
			args: []string{"--kafka.brokers", down},
			want: []string{"broker " + down + ": connection refused: start the broker, or name another address in kafka.brokers"},
			warn: []string{"skip  topic in: not tried: no broker can be used", "skip  group allowed: not tried: no broker can be used"},
		},
		"one of two brokers down": {
			args: with(secure, "--kafka.brokers", down),
			warn: []string{"warn  broker " + down + ": connection refused: start the broker, or name another address in kafka.brokers; another broker answers"},
		},
		"broker speaks TLS": {
			args: with(login, "--kafka.brokers", b.Secure),
			want: []string{"broker " + b.Secure + ": the broker speaks TLS: set kafka.tls.enabled, and kafka.tls.ca if its certificate comes from an authority of your own"},
		},
		"broker speaks no TLS": {
			args: with(tls, "--kafka.brokers", b.Addr()),
			want: []string{"broker " + b.Addr() + ": the broker speaks no TLS on this port: set kafka.tls.enabled=false, or name its port with TLS in kafka.brokers"},
		},
		"wrong CA": {
			args: with(secure, "--kafka.tls.ca", other),
			want: []string{"broker " + b.Secure + `: its certificate, issued by "broker's", comes from no authority that is trusted: set kafka.tls.ca to the PEM file of that authority`},
		},
		"wrong name": {
			args: with(secured, "--kafka.brokers", strings.Replace(b.Secure, "127.0.0.1", "localhost", 1)),
			want: []string{"broker " + strings.Replace(b.Secure, "127.0.0.1", "localhost", 1) + ": certificate is not valid for any names, but wanted to match localhost: name the broker in kafka.brokers as its certificate does"},
		},
		"client certificate missing": {
			args: with(tls, "--kafka.brokers", b.Mutual),
			want: []string{"broker " + b.Mutual + ": the broker asks for a client's certificate: set kafka.tls.cert and kafka.tls.key"},
		},
		"SASL missing": {
			args: with(tls, "--kafka.brokers", b.Secure),
			want: []string{"broker " + b.Secure + ": the broker wants a login with SASL: set kafka.sasl.mechanism to one of SCRAM-SHA-256, SCRAM-SHA-512, with user and password or a token"},
		},
		"SASL not taken": {
			args: with(login, "--kafka.brokers", b.Addr()),
			want: []string{"broker " + b.Addr() + ": the broker takes no login on this port: set kafka.sasl.mechanism=none, or name its port with SASL in kafka.brokers"},
		},
		"mechanism not offered": {
			args: with(secure, "--kafka.sasl.mechanism", "PLAIN"),
			want: []string{"broker " + b.Secure + ": the broker does not offer PLAIN: set kafka.sasl.mechanism to one of SCRAM-SHA-256, SCRAM-SHA-512"},
		},
		"wrong password": {
			args: with(secure, "--kafka.sasl.password", "wrong"),
			want: []string{"login SCRAM-SHA-512: SASL_AUTHENTICATION_FAILED: SASL Authentication failed.: Authentication failed during authentication " +
				"due to invalid credentials with SASL mechanism SCRAM-SHA-512: check the credentials (SCRAM-SHA-512 as me, password from kafka.sasl.password)"},
		},
		"topic missing": {
			args: []string{"--kafka.brokers", b.Addr(), "--kafka.input", "missing"},
			want: []string{"topic missing: does not exist: create it, or set kafka.create-topics"},
		},
		"read denied": {
			args: with(secure, "--kafka.input", "write-only"),
			want: []string{"topic write-only: Read on topic write-only is not allowed to user me; " + acls + "Read --topic write-only"},
		},
		"write denied": {
			args: with(secure, "--kafka.output", "closed"),
			want: []string{"topic closed: Write on topic closed is not allowed to user me; " + acls + "Write --topic closed"},
		},
		"group denied": {
			args: with(secure, "--kafka.group", "closed"),
			want: []string{"group closed: Read on group closed is not allowed to user me; " + acls + "Read --group closed"},
		},
		"transactional id denied": {
			args: with(secure, with(exactly, "--kafka.group", "no-ids", "--kafka.transaction.id", "mine")...),
			want: []string{"transactional id mine: Write on transactional-id mine is not allowed to user me; " + acls + "Write --transactional-id mine"},
		},
		"port taken": {
			args: with(secure, "--http.listen", taken.Addr().String()),
			want: []string{"http.listen: " + taken.Addr().String() + " is in use: stop what listens there, perhaps another inceptor, or set http.listen to another address"},
		},
		"journal folder": {
			args: with(secure, "--crash.journal", filepath.Join(file, "journal")),
			want: []string{"crash.journal: " + filepath.Join(file, "journal") + ": not a directory: name a folder that can be written in crash.journal, or set it to off"},
		},
		"state folder": {
			args: with(secure, "--model.state", filepath.Join(dir, "none", "state.json")),
			want: []string{"model.state: " + filepath.Join(dir, "none", "state.json") + ": no such file or directory: make the folder, or name a file in a folder that can be written in model.state"},
		},
		"state file": {
			args: with(secure, "--model.state", filepath.Join(dir, "broken.json")),
			want: []string{"model.state: " + filepath.Join(dir, "broken.json") + ": unexpected end of JSON input; mend the file, or remove it to forget which version was chosen and which were rolled back"},
			warn: []string{"skip  model: not tried: the state file cannot be read, so no version would be taken"},
		},
		"model": {
			args: with(secure, "--model.dir", filepath.Join(dir, "empty")),
			want: []string{"model: no version is serving: " + filepath.Join(dir, "empty") + " has no version, no folder with a number for a name that holds a saved_model.pb"},
		},
	}
	tiny := testenv.Tiny(t)
	t.Cleanup(func() { unchangedByChecks(t, b.Addr()) })
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := execute(t, checkArgs(t, tiny, test.args...)...)
			test.judge(t, code, stdout, stderr)
		})
	}
}

// allowForCheck creates the topics of TestCheckBroken, and gives the broker's user the permissions
// that the tests do not lack.
func allowForCheck(t *testing.T, b *testenv.SecuredBroker) {
	t.Helper()
	createTopics(t, b.Addr(), 1, nil, "in", "out", "dead", "write-only", "closed")
	admin := kadm.NewClient(newClient(t, b.Addr()))
	acl := func() *kadm.ACLBuilder { return kadm.NewACLs().Allow("User:" + b.User).AllowHosts("*") }
	literal := func() *kadm.ACLBuilder { return acl().ResourcePatternType(kadm.ACLPatternLiteral) }
	for _, grant := range []*kadm.ACLBuilder{
		literal().Operations(kadm.OpRead).Topics("in").Groups("allowed", "no-ids"),
		literal().Operations(kadm.OpWrite).Topics("out", "dead", "write-only"),
		acl().ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpWrite).TransactionalIDs("allowed-"),
	} {
		if _, err := admin.CreateACLs(t.Context(), grant); err != nil {
			t.Fatal(err)
		}
	}
}

// unchangedByChecks fails if the brokers have more topics than allowForCheck has created, besides
// their own, or know a transactional id.
func unchangedByChecks(t *testing.T, broker string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin := kadm.NewClient(newClient(t, broker))
	topics, err := admin.ListTopics(ctx)
	if want := []string{"closed", "dead", "in", "out", "write-only"}; err != nil || !slices.Equal(topics.Names(), want) {
		t.Errorf("the topics are %v, want %v; %v", topics.Names(), want, err)
	}
	ids, err := admin.ListTransactions(ctx, nil, nil)
	if err != nil || len(ids) > 0 {
		t.Errorf("transactional ids: %v, %v", ids, err)
	}
}

func checkArgs(t *testing.T, model string, more ...string) []string {
	return slices.Concat([]string{
		"check", "--model.dir", model, "--model.name", "tiny", "--model.optimize", "off", "--tensorflow.library", testenv.TensorFlow(t),
		"--http.listen", "127.0.0.1:0", "--crash.journal", t.TempDir(), "--model.state", filepath.Join(t.TempDir(), "state.json"),
		"--kafka.group", "allowed", "--kafka.input", "in", "--kafka.output", "out", "--kafka.dead-letter", "dead",
	}, more)
}

func (test checkTest) judge(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	var failed []string
	for line := range strings.Lines(stdout) {
		if text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "FAIL  "); ok {
			failed = append(failed, text)
		}
	}
	if want := min(len(test.want), 1); code != want || !slices.Equal(failed, test.want) {
		t.Errorf("exit status %d, want %d; fails:\n%s\nwant:\n%s\nall:\n%s%s", code, want,
			strings.Join(failed, "\n"), strings.Join(test.want, "\n"), stdout, stderr)
	}
	for _, want := range test.warn {
		if !strings.Contains("\n"+stdout, "\n"+want+"\n") {
			t.Errorf("lacks the line %q:\n%s%s", want, stdout, stderr)
		}
	}
	if strings.Contains(stderr, "level=") {
		t.Errorf("there are log lines:\n%s", stderr)
	}
}

// A full disk, and a library that is missing, need a process each.
func TestCheckBrokenMachine(t *testing.T) {
	t.Parallel()
	down := testenv.FreeAddress(t)
	full, tiny := newFullDisk(t), testenv.Tiny(t)
	state := filepath.Join(full.dir, "state.json")
	freeJournal, freeState := "", ""
	if full.mounted {
		freeJournal, freeState = "free 193 KiB there, or ", "free some space there, or "
	}
	journalAdvice := "name another folder in crash.journal"
	if !full.mounted {
		journalAdvice = "name a folder that can be written in crash.journal, or set it to off"
	}
	broker := "broker " + down + ": connection refused: start the broker, or name another address in kafka.brokers"
	for name, test := range map[string]struct{ args, want []string }{
		"disk full": {
			[]string{"--crash.journal", full.dir, "--model.state", state},
			[]string{
				"crash.journal: " + full.dir + ": " + full.complaint + ": " + freeJournal + journalAdvice, broker,
				"model.state: " + state + ": " + full.complaint + ": " + freeState + "name a file in a folder that can be written in model.state",
			},
		},
		"library": {
			[]string{"--tensorflow.library", "/nowhere/lib.so"},
			[]string{
				broker, "TensorFlow: no TensorFlow runtime; tried; /nowhere/lib.so: cannot open shared object file: No such file or directory; " +
					`get it with "pip install tensorflow-cpu" (its folder "tensorflow" holds libtensorflow_cc.so.2), from the libtensorflow archive, ` +
					`or in a checkout with "make setup"; then name the file or its folder with --tensorflow.library or INCEPTOR_TENSORFLOW_LIBRARY`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := full.command(checkArgs(t, tiny, slices.Concat([]string{"--kafka.brokers", down}, test.args)...)...)
			var out, log strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &log
			if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Fatal(err)
			}
			checkTest{want: test.want}.judge(t, cmd.ProcessState.ExitCode(), out.String(), log.String())
		})
	}
}

// With --json each line is an object with the same things as the text.
func TestCheckJSON(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := execute(t, checkArgs(t, testenv.Tiny(t), "--kafka.brokers", testenv.FreeAddress(t), "--json", "--kafka.on-error-after=1m")...)
	if code != 1 || strings.Contains(stderr, "level=WARN") {
		t.Errorf("exit status %d, want 1 and no log\n%s", code, stderr)
	}
	statuses := map[string]service.Status{}
	for line := range strings.Lines(stdout) {
		var f service.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Text == "" {
			t.Fatalf("%q: %v", line, err)
		}
		thing, _, _ := strings.Cut(f.Thing, " ")
		statuses[thing] = f.Status
	}
	for thing, want := range map[string]service.Status{"configuration": service.Warn, "broker": service.Fail, "topic": service.Skip, "group": service.Skip, "model": service.OK} {
		if statuses[thing] != want {
			t.Errorf("%s: %q, want %q\n%s", thing, statuses[thing], want, stdout)
		}
	}
}
