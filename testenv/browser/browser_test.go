package browser

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"inceptor/service/page"
	"inceptor/service/page/pagetest"
)

// patience is how long something may take to show on the page. It is generous: the machine may
// have other work.
const patience = 2 * time.Minute

var browser context.Context // of the one that all tests use, each with a tab of its own

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	path, err := filepath.Abs("../../.tools/browser")
	if err != nil {
		return 0, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox) // CI runs as root, where Chromium has no sandbox; the pages are ours
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	ctx, stop := chromedp.NewContext(allocator)
	defer stop()
	if err := chromedp.Do(ctx); err != nil {
		return 0, fmt.Errorf("start %s: %w: testenv/setup.sh test brings a browser", path, err)
	}
	browser = ctx
	return m.Run(), nil
}

// A look is how a viewer looks at the page.
type look struct {
	name   string
	width  int64
	dark   bool
	script bool // JavaScript is on
}

var (
	desk  = look{"desk", 1400, false, true}
	plain = look{"plain", 1400, false, false}
)

// A tab is one with a page in it. The test fails if the page throws, or violates its own policy.
type tab struct {
	*testing.T
	ctx context.Context //nolint:containedctx // a tab is one for chromedp

	mu     sync.Mutex // guards what follows
	faults []string
}

// open opens an address in a new tab. The test closes it.
func open(t *testing.T, url string, l look) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	p := &tab{T: t, ctx: ctx}
	err := chromedp.Listen(ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			p.faults = append(p.faults, fmt.Sprintf("%+v", *e.ExceptionDetails))
		case *cdplog.EventEntryAdded:
			if e.Entry.Source == "security" || strings.Contains(e.Entry.Text, "Content Security Policy") {
				p.faults = append(p.faults, e.Entry.Text)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, fault := range p.faults {
			t.Errorf("the browser says: %s", fault)
		}
	})
	p.run(command(cdplog.Enable, cdp.Empty{}))
	p.as(l)
	p.run(chromedp.Navigate(url))
	return p
}

// as makes a tab look at its page in another way.
func (p *tab) as(l look) {
	p.Helper()
	scheme, height := "light", int64(900)
	if l.dark {
		scheme = "dark"
	}
	if l.width < 500 {
		height = 844
	}
	p.run(
		command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: l.width, Height: height, DeviceScaleFactor: 1}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !l.script}))
}

// command is a step that sends a command to the browser.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (p *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.Fatal(err)
	}
}

// result runs one action, and returns what it gives.
func result[T any](p *tab, action chromedp.Action[T]) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.Fatal(err)
	}
	return v
}

// value returns what an expression gives on the page.
func value[T any](p *tab, expression string) T {
	p.Helper()
	return result(p, chromedp.Evaluate[T](expression))
}

// await waits until an expression is true on the page.
func (p *tab) await(expression string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience+10*time.Second)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void]("Boolean("+expression+")",
		chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(patience)))
	if err != nil {
		p.Fatalf("%s: %v; the page shows:\n%s", expression, err, p.text("body"))
	}
}

// text returns what a viewer reads in an element.
func (p *tab) text(selector string) string {
	p.Helper()
	return result(p, chromedp.Text(selector))
}

// shows waits until an element's text contains a text.
func (p *tab) shows(selector, text string) {
	p.Helper()
	p.await(fmt.Sprintf("document.querySelector(%q)?.innerText.includes(%q)", selector, text))
}

// shoot takes a picture of the whole page into .tools/screenshots.
func (p *tab) shoot(name string) {
	p.Helper()
	picture := result(p, chromedp.FullScreenshot(100))
	dir := filepath.Join("..", "..", ".tools", "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		p.Fatal(err)
	}
}

// serve serves the page of a source, and returns its address. What the buttons send comes to
// changes.
func serve(t *testing.T, source page.Source, local bool) (url string, changes <-chan string) {
	t.Helper()
	sent := make(chan string, 10)
	mux := http.NewServeMux()
	mux.Handle("GET /", page.New(source, func(*http.Request) bool { return local }, slog.New(slog.DiscardHandler)).Handler())
	// As the service guards them: a browser that says Origin: null must still be let in.
	mux.Handle("POST /models/", http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent <- r.URL.String()
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		fmt.Fprintf(w, `{"version":1,"warning":"after %s a restart forgets it"}`, r.URL.Path)
	})))
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL, sent
}

func newSource() *pagetest.Source { return pagetest.New(time.Now()) }

func contains(text, part string) bool { return strings.Contains(text, part) }
