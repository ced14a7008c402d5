package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

//go:embed static
var static embed.FS

//go:embed template
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "template/*.html"))

// Period is how often the page is rendered while somebody looks at it.
const Period = time.Second

// A Page renders a Source for the browsers that ask. Safe for concurrent use.
type Page struct {
	// Set once, by New.
	source  Source
	local   func(*http.Request) bool
	log     *slog.Logger
	started time.Time
	static  map[string]file

	watching sync.Mutex // held while Source.Watched is told
	viewers  int        // connections to /events; guarded by watching

	mu     sync.Mutex   // guards what follows
	tick   int64        // periods from the start to the rendering; -1: there is none
	view   View         // as of tick
	latest Sample       // as of tick
	charts []byte       // as of tick: JSON
	frames [2]*rendered // of view; for remote and local viewers; nil: not rendered yet
}

// A file is one of the static ones.
type file struct {
	content []byte
	tag     string // for ETag
}

// New returns the page of a source. The buttons that change the model are only shown to requests
// that are local.
func New(source Source, local func(*http.Request) bool, log *slog.Logger) *Page {
	p := &Page{source: source, local: local, log: log, started: time.Now(), static: map[string]file{}, tick: -1}
	files, err := fs.ReadDir(static, "static")
	for _, f := range files {
		var content []byte
		if content, err = static.ReadFile("static/" + f.Name()); err != nil {
			break
		}
		sum := sha256.Sum256(content)
		p.static[f.Name()] = file{content, `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	if err != nil {
		panic(err) // the files are in the program
	}
	return p
}

// Handler serves the page and all that belongs to it.
func (p *Page) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.whole)
	mux.HandleFunc("GET /events", p.events)
	mux.HandleFunc("GET /records/{id}", p.record)
	mux.HandleFunc("GET /thumbnails/{id}", p.thumbnail)
	mux.HandleFunc("GET /static/{name}", p.file)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store") // records may be confidential
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.URL.Path != "/" {
			// Somebody's browser is at another site, which may have no part of this page, nor take
			// the place of a viewer.
			http.Error(w, "this is for the page's own site only", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// A section is a part of the page that is replaced as a whole.
type section struct {
	id   string
	html string
}

// rendered is the page at one moment, for local or for remote viewers. It does not change.
type rendered struct {
	view     View
	sections []section
	charts   []byte // JSON
}

// Section returns the HTML of a section.
func (r *rendered) Section(id string) template.HTML {
	for _, s := range r.sections {
		if s.id == id {
			return template.HTML(s.html) // rendered by html/template
		}
	}
	return ""
}

// View returns what was rendered.
func (r *rendered) View() View { return r.view }

// sectionIDs are the sections in their order; each is a template of its own.
var sectionIDs = []string{"head", "problems", "summary", "wall", "versions", "partitions", "memory", "records"}

// now returns the page as of the present period. Whatever the number of viewers, it is rendered
// once a period.
func (p *Page) now(local bool) (*rendered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tick := int64(time.Since(p.started) / Period); tick != p.tick {
		samples := p.source.Samples()
		p.view, p.latest = p.source.View(), Sample{Lag: -1}
		if len(samples) > 0 {
			p.latest = samples[len(samples)-1]
		}
		p.charts, p.tick, p.frames = chartsOf(samples, p.view), tick, [2]*rendered{}
	}
	which := 0
	if local {
		which = 1
	}
	if p.frames[which] == nil {
		frame := &rendered{view: p.view, charts: p.charts}
		for _, id := range sectionIDs {
			var b bytes.Buffer
			err := templates.ExecuteTemplate(&b, id, data{p.view, p.latest, local})
			if err != nil {
				return nil, fmt.Errorf("section %s: %w", id, err)
			}
			frame.sections = append(frame.sections, section{id, b.String()})
		}
		p.frames[which] = frame
	}
	return p.frames[which], nil
}

// whole answers with the whole page.
func (p *Page) whole(w http.ResponseWriter, r *http.Request) {
	frame, err := p.now(p.local(r))
	p.execute(w, http.StatusOK, "page", frame, err)
}

// record answers with all that is kept of one record.
func (p *Page) record(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	detail, ok := p.source.Detail(id)
	status := http.StatusOK
	if !ok {
		status, detail.ID = http.StatusNotFound, id
	}
	p.execute(w, status, "record", struct {
		Detail
		Known bool
	}{detail, ok}, nil)
}

// execute answers with a template, unless an error has come before.
func (p *Page) execute(w http.ResponseWriter, status int, name string, data any, err error) {
	var b bytes.Buffer
	if err == nil {
		err = templates.ExecuteTemplate(&b, name, data)
	}
	if err != nil {
		p.log.Warn("the page cannot be rendered", "err", err)
		http.Error(w, "the page cannot be rendered: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// thumbnail answers with the picture of a record.
func (p *Page) thumbnail(w http.ResponseWriter, r *http.Request) {
	picture, ok := p.source.Thumbnail(r.PathValue("id"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	_, _ = w.Write(picture)
}

// file answers with a static file.
func (p *Page) file(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	f, ok := p.static[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-cache") // a browser asks each time whether it has changed
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.content))
}
