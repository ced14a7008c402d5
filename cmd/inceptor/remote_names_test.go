package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/remote/remotetest"
	"inceptor/service/stream/embedded"
	"inceptor/testenv"
)

// check reports the faults of a model server that the service would meet.
func TestCheckModelServer(t *testing.T) {
	t.Parallel()
	broker, err := embedded.Start(0, 1, inputTopic, outputTopic, deadLetterTopic)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir := testenv.Tiny(t)
	spec := filepath.Join(dir, "1", "assets.extra", "inceptor.yaml")
	text, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(spec, append(text, "\noutput: scores\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	// What is assumed of the preprocessing is told, wherever the model is.
	assuming := testenv.Tiny(t)
	if err := os.WriteFile(filepath.Join(assuming, "1", "assets.extra", "inceptor.yaml"), []byte("labels: labels.txt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fake := remotetest.NewFake("tiny")
	fake.Classes, fake.PredictAlone = 2, true
	server := remotetest.Serve(t, fake)
	code, stdout, stderr := execute(t, "check", "--kafka.brokers", broker.Addr(), "--model.dir", assuming, "--model.name", "tiny",
		"--model.backend", "local-then-remote", "--fallback.address", server.Addr(), "--fallback.version", "any")
	const assumed = ": pixels −1…1 and half-pixel centers are assumed, not stated by the model"
	if code != 0 || !strings.Contains(stdout, "warn  model"+assumed) || !strings.Contains(stdout, "warn  model server "+server.Addr()+assumed) {
		t.Errorf("what is assumed: exit status %d\n%s%s", code, stdout, stderr)
	}
	picture := filepath.Join(testenv.Photos(t), "china.jpg")
	for _, backend := range []string{"local", "remote"} {
		code, stdout, stderr := execute(t, "classify", "--model.dir", assuming, "--model.name", "tiny", "--model.backend", backend,
			"--fallback.address", server.Addr(), "--fallback.version", "any", picture, picture)
		if code != 0 || strings.Count(stderr, "note"+assumed) != 1 {
			t.Errorf("classify, %s: exit status %d\n%s%s", backend, code, stdout, stderr)
		}
	}

	for _, test := range []struct {
		name string
		fake func(*remotetest.Fake)
		code int
		want string
	}{
		{"another output", func(f *remotetest.Fake) { f.Scores = "probabilities" }, 0, ": tiny, version 1, classifies\n"},
		{"Predict alone", func(f *remotetest.Fake) { f.PredictAlone, f.Scores = true, "probabilities" }, 0, ": tiny, a version that the model server does not report, classifies\n"},
		{"other classes", func(f *remotetest.Fake) { f.Classes = 7 }, exitFailed, "2 labels for 7 classes"},
		{"other classes, another output", func(f *remotetest.Fake) { f.Scores, f.Classes = "probabilities", 7 }, exitFailed,
			`output "probabilities": labels: 2 labels for 7 classes`},
	} {
		for _, backend := range []string{"remote", "local-then-remote"} {
			t.Run(test.name+", "+backend, func(t *testing.T) {
				fake := remotetest.NewFake("tiny")
				fake.Classes = 2
				test.fake(fake)
				server := remotetest.Serve(t, fake)
				code, stdout, stderr := execute(t, "check", "--kafka.brokers", broker.Addr(), "--model.dir", dir, "--model.name", "tiny",
					"--model.backend", backend, "--fallback.address", server.Addr(), "--fallback.version", "any")
				if code != test.code || !strings.Contains(stdout, test.want) {
					t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
				}
				ok := strings.Contains(stdout, "ok    model server "+server.Addr())
				if ok != (test.code == 0) {
					t.Errorf("the model server is ok: %v\n%s", ok, stdout)
				}
			})
		}
	}
}
