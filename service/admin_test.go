package service

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"inceptor/model"
)

// changeable notes what it was asked for.
type changeable struct {
	fakeModel
	used *int64
	err  error
}

func (c *changeable) Use(_ context.Context, version int64) error {
	c.used = &version
	return c.err
}

func (c *changeable) UseHighest(context.Context) error { return c.err }

func (c *changeable) Rollback(_ context.Context, only *int64) (int64, error) {
	if only != nil && *only != 4 {
		return 4, model.ErrOther
	}
	return 4, c.err
}

func TestAdmin(t *testing.T) {
	four := new(int64(4))
	refused := fmt.Errorf("version 4: %w: golden: too bad", model.ErrFailed)
	for _, test := range []struct {
		name, path, from, host string
		header                 http.Header
		err                    error
		server                 bool // a model server answers, so there are no versions here
		status                 int
		want                   Change
	}{
		{name: "use", path: "/models/use?version=4", status: 200, want: Change{Version: four}},
		{name: "use highest", path: "/models/use?version=highest", status: 200},
		{name: "no version", path: "/models/use", status: 400, want: Change{Error: "neither"}},
		{name: "version 0", path: "/models/use?version=0", status: 200, want: Change{Version: new(int64)}},
		{name: "negative", path: "/models/use?version=-1", status: 400, want: Change{Error: "neither"}},
		{name: "unreadable", path: "/models/use?version=highest", err: model.ErrUnreadable, status: 409, want: Change{Error: "cannot be read"}},
		{name: "unknown", path: "/models/use?version=4", err: model.ErrUnknownVersion, status: 404, want: Change{Version: four, Error: "no such version"}},
		{name: "refused", path: "/models/use?version=4", err: refused, status: 409, want: Change{Version: four, Error: "too bad"}},
		{name: "forgotten", path: "/models/use?version=4", err: model.ErrForgotten, status: 200, want: Change{Version: four, Warning: "restart"}},
		{name: "rollback", path: "/models/rollback", status: 200, want: Change{Version: four}},
		{name: "rollback, of the confirmed version", path: "/models/rollback?version=4", status: 200, want: Change{Version: four}},
		{name: "rollback, of another than the confirmed version", path: "/models/rollback?version=3", status: 409, want: Change{Version: four, Error: "another version"}},
		{name: "rollback, of no version", path: "/models/rollback?version=x", status: 400, want: Change{Error: "no version's number"}},
		{name: "no way back", path: "/models/rollback", err: model.ErrNoWayBack, status: 409, want: Change{Version: four, Error: "go back"}},
		{name: "use, a model server's", path: "/models/use?version=4", server: true, status: 404, want: Change{Error: "the model server chooses"}},
		{name: "use highest, a model server's", path: "/models/use?version=highest", server: true, status: 404, want: Change{Error: "the model server chooses"}},
		{name: "rollback, a model server's", path: "/models/rollback", server: true, status: 404, want: Change{Error: "the model server chooses"}},
		{name: "from afar", path: "/models/rollback", from: "192.0.2.1:5", status: 403, want: Change{Error: "own machine"}},
		{name: "from IPv6", path: "/models/rollback", from: "[::1]:5", status: 200, want: Change{Version: four}},
		{name: "by a name of somebody else's", path: "/models/rollback", host: "evil.example:8080", status: 403, want: Change{Error: "own machine"}},
		{name: "by address", path: "/models/rollback", host: "[::1]:8080", status: 200, want: Change{Version: four}},
	} {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			s := &Service{}
			if !test.server {
				s.versions = &changeable{err: test.err}
			}
			s.admin(mux)
			r := httptest.NewRequest(http.MethodPost, test.path, nil)
			r.RemoteAddr, r.Host = "127.0.0.1:5", "localhost:8080"
			if test.from != "" {
				r.RemoteAddr = test.from
			}
			if test.host != "" {
				r.Host = test.host
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			var got Change
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != test.status || !reflect.DeepEqual(got.Version, test.want.Version) ||
				!strings.Contains(got.Error, test.want.Error) || (got.Error == "") != (test.want.Error == "") ||
				!strings.Contains(got.Warning, test.want.Warning) || (got.Warning == "") != (test.want.Warning == "") {
				t.Errorf("got %d %+v, want %d %+v", w.Code, got, test.status, test.want)
			}
		})
	}
}

// A page in somebody's browser cannot change the model, nor can a link.
func TestAdminCrossOrigin(t *testing.T) {
	mux, m := http.NewServeMux(), &changeable{}
	(&Service{versions: m}).admin(mux)
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		r := httptest.NewRequest(method, "/models/use?version=4", nil)
		r.RemoteAddr, r.Host = "127.0.0.1:5", "localhost:8080"
		r.Header.Set("Origin", "https://example.com")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code < 400 || m.used != nil {
			t.Errorf("%s: status %d, version %v is used", method, w.Code, m.used)
		}
	}
}

// The level of the log changes while the service runs, and only from its own machine.
func TestLogLevel(t *testing.T) {
	for name, test := range map[string]struct {
		method, query, from string
		fixed               bool // the process cannot change its level
		status              int
		want                Level
		level               slog.Level // afterwards
	}{
		"show":          {method: http.MethodGet, status: 200, want: Level{Level: "INFO"}},
		"debug":         {method: http.MethodPut, query: "?level=debug", status: 200, want: Level{Level: "DEBUG"}, level: slog.LevelDebug},
		"error":         {method: http.MethodPut, query: "?level=ERROR", status: 200, want: Level{Level: "ERROR"}, level: slog.LevelError},
		"no level":      {method: http.MethodPut, status: 400, want: Level{Level: "INFO", Error: `level: "" is none of debug, info, warn and error`}},
		"unknown level": {method: http.MethodPut, query: "?level=loud", status: 400, want: Level{Level: "INFO", Error: `level: "loud" is none of debug, info, warn and error`}},
		"from afar":     {method: http.MethodPut, query: "?level=debug", from: "192.0.2.1:5", status: 403, want: Level{Error: errNotLocal.Error()}},
		"fixed":         {method: http.MethodPut, query: "?level=debug", fixed: true, status: 409, want: Level{Error: errNoLevel.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			level := new(slog.LevelVar)
			s := &Service{LogLevel: level, log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))}
			if test.fixed {
				s.LogLevel = nil
			}
			mux := http.NewServeMux()
			s.admin(mux)
			r := httptest.NewRequest(test.method, "/log/level"+test.query, nil)
			r.RemoteAddr, r.Host = cmp.Or(test.from, "127.0.0.1:5"), "localhost:8080"
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			var got Level
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != test.status || got != test.want || level.Level() != test.level {
				t.Errorf("got %d %+v, level %v, %v; want %d %+v, level %v", w.Code, got, level, err, test.status, test.want, test.level)
			}
			if changed := strings.Contains(log.String(), `msg="log level changed"`); changed != (test.method == http.MethodPut && test.status == 200) {
				t.Errorf("the log has %q", &log)
			}
		})
	}
}

// A button of the page leads back to the page where JavaScript is off; what went wrong is shown.
func TestAdminButton(t *testing.T) {
	for name, test := range map[string]struct {
		err      error
		status   int
		location string
	}{
		"changed":   {nil, http.StatusSeeOther, "/"},
		"refused":   {model.ErrFailed, http.StatusConflict, ""},
		"forgotten": {model.ErrForgotten, http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			(&Service{versions: &changeable{err: test.err}}).admin(mux)
			r := httptest.NewRequest(http.MethodPost, "/models/use?version=4", nil)
			r.RemoteAddr, r.Host = "127.0.0.1:5", "localhost:8080"
			r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
			w := httptest.NewRecorder()
			if mux.ServeHTTP(w, r); w.Code != test.status || w.Header().Get("Location") != test.location {
				t.Errorf("got %d to %q, want %d to %q", w.Code, w.Header().Get("Location"), test.status, test.location)
			}
		})
	}
}

// Profiles are for the service's own machine, and no page of another origin has them made.
func TestProfiles(t *testing.T) {
	for name, test := range map[string]struct {
		path, from, site string
		proxied          bool
		status           int
		want             string
	}{
		"list":              {path: "", status: 200, want: "goroutine"},
		"goroutines":        {path: "goroutine?debug=1", status: 200, want: "TestProfiles"},
		"heap":              {path: "heap?debug=1", status: 200, want: "heap profile"},
		"command line":      {path: "cmdline", status: 200, want: "test"},
		"by hand":           {path: "cmdline", site: "none", status: 200, want: "test"},
		"unknown":           {path: "nothing", status: 404, want: "Unknown profile"},
		"from afar":         {path: "heap", from: "192.0.2.1:5", status: 403, want: errNoProfile.Error()},
		"through a proxy":   {path: "profile", proxied: true, status: 403, want: errNoProfile.Error()},
		"from another site": {path: "profile?seconds=3600", site: "cross-site", status: 403, want: errNoProfile.Error()},
		"from another port": {path: "trace?seconds=3600", site: "same-site", status: 403, want: errNoProfile.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			(&Service{}).admin(mux)
			r := httptest.NewRequest(http.MethodGet, "/debug/pprof/"+test.path, nil)
			r.RemoteAddr, r.Host = cmp.Or(test.from, "127.0.0.1:5"), "localhost:8080"
			if test.site != "" {
				r.Header.Set("Sec-Fetch-Site", test.site)
			}
			if test.proxied {
				r.Header.Set("Via", "1.1 proxy")
			}
			w := httptest.NewRecorder()
			if mux.ServeHTTP(w, r); w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
				t.Errorf("got %d %.200s, want %d with %q", w.Code, w.Body, test.status, test.want)
			}
		})
	}
}
