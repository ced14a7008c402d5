package service

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

func goodConfig() Config {
	return Config{
		Kafka: Kafka{
			Brokers: []string{"a:1"}, Group: "g", SessionTimeout: 6 * time.Second, Input: []string{"in"}, Output: "out", DeadLetter: "dead", Shadow: "shadow",
			Window: Window{Records: 1, Bytes: 1}, SASL: SASL{Mechanism: "none"}, Compression: "none",
		},
		Input: settings.Default[input.Config](),
		Model: model.Config{Name: "m", Dir: "d", Batch: infer.Batch{Max: 1}, MaxPixels: 1,
			Poll: time.Second, Gate: model.Gate{Timeout: time.Minute}},
		Shutdown: Shutdown{Timeout: time.Second},
	}
}

func TestValidate(t *testing.T) {
	if problems := goodConfig().Validate(); len(problems) > 0 {
		t.Fatalf("the good one: %v", problems)
	}
	for _, test := range []struct {
		name string
		bad  func(*Config)
		want []string // the beginning of each problem
	}{
		{"broker without port", func(c *Config) { c.Kafka.Brokers = []string{"a:1", "b"} }, []string{`kafka.brokers: "b"`}},
		{"ports", func(c *Config) {
			c.Kafka.Brokers, c.HTTP.Listen = []string{"a:kafka", "a:0", "a:65536", ":1"}, "a:99999"
		},
			[]string{`kafka.brokers: "a:kafka"`, `kafka.brokers: "a:0"`, `kafka.brokers: "a:65536"`, "http.listen"}},
		{"same topic", func(c *Config) { c.Kafka.Output = "in" }, []string{`kafka.output: "in" is kafka.input`}},
		{"topic names", func(c *Config) {
			c.Kafka.Input, c.Kafka.Output, c.Kafka.DeadLetter = []string{""}, "a b", strings.Repeat("x", 250)
		},
			[]string{"kafka.input", "kafka.output", "kafka.dead-letter"}},
		{"no topic", func(c *Config) { c.Kafka.Input = nil }, []string{"kafka.input: must name"}},
		{"same topic twice", func(c *Config) { c.Kafka.Input = []string{"a", "b", "a"} }, []string{`kafka.input: "a" is kafka.input already`}},
		{"window", func(c *Config) { c.Kafka.Window = Window{Records: -1, TotalBytes: 1000} },
			[]string{"kafka.window.records", "kafka.window.bytes", "kafka.window.total-bytes"}},
		{"transaction", func(c *Config) {
			c.Kafka.Delivery, c.Kafka.Transaction = exactlyOnce, Transaction{Interval: 20 * time.Second, Timeout: 30 * time.Second}
		}, []string{"kafka.transaction.records", "kafka.transaction.timeout"}},
		{"session", func(c *Config) { c.Kafka.SessionTimeout = 500 * time.Millisecond }, []string{"kafka.session-timeout: 500ms"}},
		{"endless session", func(c *Config) { c.Kafka.SessionTimeout = 1000 * time.Hour }, []string{"kafka.session-timeout: 1000h0m0s"}},
		{"what kafka-go cannot do", func(c *Config) { c.Kafka.InstanceID, c.Kafka.Rack = "pod-0", "a" },
			[]string{"kafka.instance-id: kafka-go cannot do that: set kafka.client=franz-go", "kafka.rack: kafka-go cannot"}},
		{"SASL without user", func(c *Config) { c.Kafka.SASL.Mechanism = "PLAIN" }, []string{"kafka.sasl.user", "kafka.sasl.password-file: PLAIN needs it"}},
		{"user without password", func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "PLAIN", User: "u"} }, []string{"kafka.sasl.password-file: PLAIN needs it"}},
		{"no password file", func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "PLAIN", User: "u", PasswordFile: "none"} }, []string{"kafka.sasl.password-file: open none"}},
		{"no token", func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "OAUTHBEARER"} }, []string{"kafka.sasl.token-file: OAUTHBEARER needs it"}},
		{"no token file", func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "OAUTHBEARER", TokenFile: "none"} }, []string{"kafka.sasl.token-file: open none"}},
		{"token for SCRAM", func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-512", User: "u", Password: "p", TokenFile: "f"}
		}, []string{"kafka.sasl.token-file: only OAUTHBEARER"}},
		{"token without SASL", func(c *Config) { c.Kafka.SASL.OIDC.Scope = "s" }, []string{"kafka.sasl.mechanism: must be OAUTHBEARER"}},
		{"password for OAUTHBEARER", func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "OAUTHBEARER", Password: "p", TokenFile: "f"}
		}, []string{"kafka.sasl.user: OAUTHBEARER takes a token"}},
		{"two tokens", func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "OAUTHBEARER", TokenFile: "f", OIDC: OIDC{TokenURL: "https://i/t", ClientID: "c", ClientSecretFile: "f"}}
		}, []string{"kafka.sasl.token-file: kafka.sasl.oidc is set too"}},
		{"OIDC half", func(c *Config) {
			c.Kafka.SASL = SASL{Mechanism: "OAUTHBEARER", OIDC: OIDC{TokenURL: "https://me:secret@i/t"}}
		},
			[]string{"kafka.sasl.oidc.token-url: want https://host/path, without", "kafka.sasl.oidc.client-id", "kafka.sasl.oidc.client-secret-file"}},
		{"user without SASL", func(c *Config) { c.Kafka.SASL.User = "u" }, []string{"kafka.sasl.mechanism"}},
		{"two passwords", func(c *Config) { c.Kafka.SASL = SASL{Mechanism: "PLAIN", User: "u", Password: "p", PasswordFile: "f"} }, []string{"kafka.sasl.password-file"}},
		{"TLS half", func(c *Config) { c.Kafka.TLS = TLS{Cert: "x"} }, []string{"kafka.tls.cert", "kafka.tls.enabled"}},
		{"model", func(c *Config) { c.Model = model.Config{} },
			[]string{"model.name", "model.dir", "model.poll", "model.gate.timeout", "model.max-pixels"}},
		{"GPU", func(c *Config) { c.TensorFlow.GPU.MemoryFraction = 2 }, []string{"tensorflow.gpu.memory-fraction"}},
		{"no number for the GPU", func(c *Config) { c.TensorFlow.GPU.MemoryFraction = math.NaN() }, []string{"tensorflow.gpu.memory-fraction"}},
		{"threads", func(c *Config) { c.TensorFlow.IntraOpThreads, c.TensorFlow.InterOpThreads = -1, -1 },
			[]string{"tensorflow.intra-op-threads", "tensorflow.inter-op-threads"}},
		{"bfloat16 without its kernels", func(c *Config) {
			c.Model.Optimize, c.Model.Kernels, c.Model.Precision = "auto", "tensorflow", "bfloat16"
		}, []string{"model.precision"}},
		{"operation", func(c *Config) { c.HTTP.Listen, c.Shutdown.Timeout = "x", 0 }, []string{"http.listen", "shutdown.timeout"}},
		{"all at once", func(c *Config) { c.Kafka.Group, c.Input.MaxBytes, c.Model.Dir = "", 0, "" },
			[]string{"kafka.group", "input.max-bytes", "model.dir"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := goodConfig()
			test.bad(&c)
			got := c.Validate()
			for i, problem := range got {
				if i >= len(test.want) || !strings.HasPrefix(problem.Error(), test.want[i]) {
					t.Errorf("problem %d: %v", i, problem)
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("got %d problems, want %q", len(got), test.want)
			}
		})
	}
}

func TestStreamConfig(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := goodConfig()
	c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-512", User: "u", PasswordFile: file("password", "secret\n")}
	got, err := c.streamConfig(nil, nil, &handler{})
	if err != nil || got.SASL.Mechanism != "SCRAM-SHA-512" || got.TLS != nil {
		t.Fatalf("got %+v, %v", got, err)
	}
	if l, err := got.SASL.Login(t.Context()); err != nil || l != (stream.Login{User: "u", Password: "secret"}) {
		t.Errorf("got %+v, %v", l, err)
	}
	if said := fmt.Sprintf("%v %+v %#v", got.SASL, got.SASL, stream.Login{User: "u", Password: "secret"}); strings.Contains(said, "secret") {
		t.Errorf("it shows the password: %s", said)
	}

	for key, tls := range map[string]TLS{
		"kafka.tls.ca: open":     {Enabled: true, CA: filepath.Join(dir, "none")},
		"kafka.tls.ca: " + dir:   {Enabled: true, CA: file("ca", "no certificate")},
		"kafka.tls.cert and kaf": {Enabled: true, Cert: file("cert", "x"), Key: file("key", "x")},
	} {
		c := goodConfig()
		c.Kafka.TLS = tls
		if _, err := c.streamConfig(nil, nil, &handler{}); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("got %v, want %s", err, key)
		}
	}
	c.Kafka.SASL.PasswordFile = filepath.Join(dir, "none")
	if _, err := c.streamConfig(nil, nil, &handler{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no password file: got %v", err)
	}
}

// What a batch may take does not shrink with a small window, and grows with what
// has to fit.
func TestBatchBytes(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct{ window, most, want input.Bytes }{
		"small window and records": {1 * mib, mib / 4, 32 * mib},
		"defaults":                 {32 * mib, 16 * mib, 32 * mib},
		"large window":             {64 * mib, 16 * mib, 64 * mib},
		"large records":            {32 * mib, 20 * mib, 40 * mib},
	} {
		c := goodConfig()
		c.Kafka.Window.Bytes, c.Input.MaxBytes = test.window, test.most
		if got := c.batchBytes(); got != int64(test.want) {
			t.Errorf("%s: %d bytes, want %d", name, got, test.want)
		}
	}
}

// What all partitions may hold follows from the memory there is, unless it is set.
func TestTotalBytes(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct {
		set    input.Bytes
		memory uint64 // 0: not known
		want   int64
	}{
		"an eighth":    {0, 4096 * mib, 512 * mib},
		"little":       {0, 256 * mib, 64 * mib},
		"not known":    {0, 0, 64 * mib},
		"set":          {100 * mib, 4096 * mib, 100 * mib},
		"set to less":  {mib, 4096 * mib, mib},
		"set to more ": {1024 * mib, 512 * mib, 1024 * mib},
	} {
		c := goodConfig()
		c.Kafka.Window.TotalBytes = test.set
		if got := c.totalBytes(func() (uint64, bool) { return test.memory, test.memory > 0 }); got != test.want {
			t.Errorf("%s: %d bytes, want %d", name, got, test.want)
		}
	}
}
