package browser

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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

// TestService looks at a whole service with the real model, from its start to its end: under load,
// in a swap, after a roll-back, and without its broker.
func TestService(t *testing.T) {
	broker, err := embedded.Start(0, 2, "ImageInputTopic")
	if err != nil {
		t.Fatal(err)
	}
	var closeBroker sync.Once
	defer closeBroker.Do(broker.Close)
	models, address := t.TempDir(), broker.Addr()
	addVersion(t, models, "1")
	s := start(t, models, address)
	p := open(t, s.url, desk)
	p.shows("#head", "ImageInputTopic")

	stopSending := sendPhotos(t, broker)
	p.await(`document.querySelectorAll('.wall img').length === 24`)
	p.await(`[...document.querySelectorAll('#records .badge')].some(b => b.innerText === 'published')`)
	p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
	p.await(`[...document.images].every(i => i.complete && i.naturalWidth)`)
	p.looks("service-load")

	addVersion(t, models, "2")
	p.await(`[...document.querySelectorAll('.version')].some(v => /Version 2 (loading|warming)/.test(v.innerText))`)
	p.looks("service-swap")
	p.await(`[...document.querySelectorAll('.version.good')].some(v => v.innerText.includes('Version 2'))`)
	p.shows(".timeline", "Version 2 answers")

	value[chromedp.Void](p, `window.confirm = () => true; document.querySelector('#rollback-2').click()`)
	p.await(`[...document.querySelectorAll('.version.good')].some(v => v.innerText.includes('Version 1'))`)
	p.shows(".timeline", "Version 2 was rolled back")

	// Some answers are on their way now, as the model always has something to do.
	closeBroker.Do(broker.Close)
	stopSending()
	p.await(`document.querySelector('.problem.error')?.innerText.includes('` + address + `')`)
	p.await(`[...document.querySelectorAll('#records .badge')].some(b => b.innerText === 'answered')`) // and not published
	p.looks("service-broker")

	// No record comes any more, so that those in the table stay there.
	id := value[string](p, `[...document.querySelectorAll('#records tbody tr')].find(r => r.querySelector('.badge').innerText === 'published').querySelector('a').innerText`)
	detail := open(t, s.url+"/records/"+id, desk)
	detail.shows("main", `"id": "`+id+`"`)
	detail.shows("main", "infer")
	detail.shows("main", "kcat -C -b "+address)
	detail.shoot("service-record")

	s.stop()
	p.shows("#connection", "No connection since")
	p.shoot("service-gone-desk")
}

// looks checks that the page can be read in each look, and takes a picture of each.
func (p *tab) looks(state string) {
	p.Helper()
	for _, l := range []look{
		{"phone-dark", 390, true, true}, {"phone", 390, false, true}, {"desk-dark", 1400, true, true}, {"desk", 1400, false, true},
	} {
		p.as(l)
		p.await(fmt.Sprintf(`innerWidth === %d && matchMedia('(prefers-color-scheme: dark)').matches === %t`, l.width, l.dark))
		p.legible(l)
		p.shoot(state + "-" + l.name)
	}
}

// sendPhotos sends the sample photos to a broker again and again, and now and then what is none,
// until it is stopped. It is never more than some records ahead of the answers.
func sendPhotos(t *testing.T, broker *embedded.Broker) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	ahead := make(chan struct{}, 6)
	g.Go(func() {
		_ = broker.Follow(ctx, func(stream.Record) bool {
			<-ahead
			return true
		}, "ImageOutputTopic", "ImageDeadLetterTopic")
	})
	g.Go(func() {
		paths, _ := filepath.Glob("../../.tools/photos/*")
		for i := 0; len(paths) > 0; i++ {
			path := paths[i%len(paths)]
			photo, err := os.ReadFile(path)
			if err != nil {
				return
			}
			if i%37 == 20 {
				photo = photo[:len(photo)/2]
			}
			select {
			case <-ctx.Done():
				return
			case ahead <- struct{}{}:
			}
			if broker.Send(ctx, stream.Record{Topic: "ImageInputTopic", Key: []byte(filepath.Base(path)), Value: photo}) != nil {
				return
			}
		}
	})
	return func() {
		cancel()
		g.Wait()
	}
}

// addVersion puts Inception into a folder of models, as a version.
func addVersion(t *testing.T, models, version string) {
	t.Helper()
	from, err := filepath.EvalSymlinks("../../savedmodel/inception/1")
	if err != nil {
		t.Fatal(err)
	}
	hidden := filepath.Join(models, ".new")
	if err := os.CopyFS(hidden, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(hidden, filepath.Join(models, version)); err != nil {
		t.Fatal(err)
	}
}

// A service is a running inceptor.
type service struct {
	*testing.T
	cmd  *exec.Cmd
	url  string
	done chan error

	mu  sync.Mutex // guards what follows
	log bytes.Buffer
}

// Write adds to the log.
func (s *service) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// start builds and starts a service, and waits until it serves its page.
func start(t *testing.T, models, broker string) *service {
	t.Helper()
	program := filepath.Join(t.TempDir(), "inceptor")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, "./cmd/inceptor").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := &service{T: t, url: "http://" + l.Addr().String(), done: make(chan error, 1)}
	s.cmd = exec.Command(program, "run", "--kafka.brokers", broker, "--model.dir", models, "--http.listen", l.Addr().String(), "--http.thumbnails", "--kafka.create-topics",
		"--crash.journal", filepath.Join(t.TempDir(), "journal"))
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = "../..", s, s
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		if t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Logf("the service's log:\n%s", s.log.String())
		}
	})
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		r, err := http.Get(s.url + "/healthz")
		if err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("the service does not listen: %v", err)
		}
	}
}

// stop ends the service as Kubernetes does.
func (s *service) stop() {
	s.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		s.Fatal("the service does not end")
	}
}
