package monitoring

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// page is what a service shows on /metrics to a scraper that asks for a format.
type page struct {
	contentType string
	body        []byte
}

// The formats that Prometheus asks for: text, and protobuf where it scrapes native histograms.
const (
	text     = "text/plain;version=0.0.4"
	protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// scrape reads /metrics of a service.
func scrape(t *testing.T, url, format string) page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", format)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v", res.Status, err)
	}
	return page{res.Header.Get("Content-Type"), body}
}

// answered is the lag of a partition that has no more records.
var answered = regexp.MustCompile(`(?m)^inceptor_lag_records\{.*\} 0$`)

// scrapes runs a service with the real model, whose model server is gone and whose newest version
// is broken. It returns what the service shows before it has a model, after some records, and after
// some more: by format.
func scrapes(t *testing.T) (empty page, before, after map[string]page) {
	t.Helper()
	broker, err := embedded.Start(0, 2, "ImageInputTopic", "ImageOutputTopic", "ImageDeadLetterTopic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	models := t.TempDir()
	url := startService(t, broker.Addr(), models)
	empty = scrape(t, url, text)
	writeVersions(t, models)
	answer := func(photos, broken, all int) map[string]page {
		send(t, broker, photos, broken)
		await(t, "every record, and the broken version", func() bool {
			body := string(scrape(t, url, text).body)
			return strings.Contains(body, fmt.Sprintf("\ninceptor_end_to_end_latency_seconds_count %d\n", all)) &&
				len(answered.FindAllString(body, -1)) == 2 && strings.Contains(body, "\ninceptor_model_load_failures_total{gate=\"complete\"} 1\n")
		})
		return map[string]page{text: scrape(t, url, text), protobuf: scrape(t, url, protobuf)}
	}
	return empty, answer(2, 1, 3), answer(8, 2, 13)
}

// send sends photos, and files that are cut short.
func send(t *testing.T, broker *embedded.Broker, photos, broken int) {
	t.Helper()
	paths, err := filepath.Glob("../../.tools/photos/*.jpg")
	if err != nil || len(paths) == 0 {
		t.Skip("no photos: run make setup")
	}
	var records []stream.Record
	for i := range photos + broken {
		photo, err := os.ReadFile(paths[i%len(paths)])
		if err != nil {
			t.Fatal(err)
		}
		if i >= photos {
			photo = photo[:50]
		}
		records = append(records, stream.Record{Topic: "ImageInputTopic", Key: fmt.Append(nil, i), Value: photo})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := broker.Send(ctx, records...); err != nil {
		t.Fatal(err)
	}
}

// writeVersions writes the real model as version 1, and a broken version 2.
func writeVersions(t *testing.T, models string) {
	t.Helper()
	model, err := filepath.Abs("../../savedmodel/inception/1")
	if err == nil {
		err = os.Symlink(model, filepath.Join(models, "1"))
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(models, "2"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(models, "2", "saved_model.pb"), []byte("not a model"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startService builds and starts a service, and returns its address.
func startService(t *testing.T, broker, models string) (url string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "inceptor")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, "./cmd/inceptor").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	nobody := freeAddress(t)
	address := freeAddress(t)
	log := &lockedBuffer{}
	cmd := exec.Command(program, "run", "--kafka.brokers", broker, "--model.dir", models, "--http.listen", address,
		"--model.backend", "local-then-remote", "--fallback.address", nobody, "--crash.journal", filepath.Join(t.TempDir(), "journal"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = "../..", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the service's log:\n%s", log.String())
		}
	})
	await(t, "the service to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "http://" + address
}

// freeAddress returns an address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// A lockedBuffer is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
