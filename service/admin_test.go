package service

import (
	"context"
	"encoding/json"
	"fmt"
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

func (c *changeable) Rollback(context.Context) (int64, error) { return 4, c.err }

func TestAdmin(t *testing.T) {
	four := new(int64(4))
	refused := fmt.Errorf("version 4: %w: golden: too bad", model.ErrRefused)
	for _, test := range []struct {
		name, path, from, host string
		header                 http.Header
		err                    error
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
		{name: "no way back", path: "/models/rollback", err: model.ErrNoWayBack, status: 409, want: Change{Version: four, Error: "go back"}},
		{name: "from afar", path: "/models/rollback", from: "192.0.2.1:5", status: 403, want: Change{Error: "own machine"}},
		{name: "from IPv6", path: "/models/rollback", from: "[::1]:5", status: 200, want: Change{Version: four}},
		{name: "by a name of somebody else's", path: "/models/rollback", host: "evil.example:8080", status: 403, want: Change{Error: "own machine"}},
		{name: "by address", path: "/models/rollback", host: "[::1]:8080", status: 200, want: Change{Version: four}},
	} {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			s := &Service{model: &changeable{err: test.err}}
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
	(&Service{model: m}).admin(mux)
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
