package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"

	"inceptor/model"
)

// A Change is the body of an answer to POST /models/use and /models/rollback.
type Change struct {
	Version *int64 `json:"version"` // the one that is to serve (null: the highest), or that was rolled back
	Warning string `json:"warning,omitempty"`
	Error   string `json:"error,omitempty"` // why nothing was changed
}

// A Level is the body of an answer to GET and PUT /log/level.
type Level struct {
	Level string `json:"level,omitempty"` // now: DEBUG, INFO, WARN or ERROR
	Error string `json:"error,omitempty"` // why it was not changed
}

var (
	errNotLocal = errors.New("only the service's own machine may change the service, and not through a proxy: " +
		"send the request there, or run \"inceptor models\" there or in its container")
	errNoProfile = errors.New("profiles are for the service's own machine only, and not through a proxy or for another site's page: " +
		"ask for them there, in its container's network, or through kubectl port-forward")
	errNoLevel = errors.New("the log level of this process cannot be changed")
)

// admin adds the handlers that change the model or the log level, and those of
// profiles, to a mux. They accept requests from this machine only, not through a
// reverse proxy, and not from pages of another origin in somebody's browser.
func (s *Service) admin(mux *http.ServeMux) {
	guard := http.NewCrossOriginProtection()
	guarded := func(pattern string, refusal any, h http.HandlerFunc) {
		mux.Handle(pattern, guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !local(r) || fromElsewhere(r) {
				writeJSON(w, http.StatusForbidden, refusal)
				return
			}
			h(w, r)
		})))
	}
	handle := func(pattern string, h func(*http.Request) (Change, error)) {
		guarded(pattern, Change{Error: errNotLocal.Error()}, func(w http.ResponseWriter, r *http.Request) {
			c, err := Change{}, errNoVersions
			if s.versions != nil {
				c, err = h(r)
			}
			if err != nil {
				c.Error = err.Error()
			} else if c.Warning == "" && strings.Contains(r.Header.Get("Accept"), "text/html") {
				http.Redirect(w, r, "/", http.StatusSeeOther) // a button of the page, without JavaScript
				return
			}
			writeJSON(w, statusOf(err), c)
		})
	}
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		guarded(method+" /log/level", Level{Error: errNotLocal.Error()}, s.serveLevel)
	}
	for path, profile := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		guarded("GET /debug/pprof/"+path, Change{Error: errNoProfile.Error()}, profile)
	}
	handle("POST /models/use", func(r *http.Request) (Change, error) {
		text := r.URL.Query().Get("version")
		if text == "highest" {
			return changed(nil, s.versions.UseHighest(r.Context()))
		}
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return Change{}, fmt.Errorf("version: %q is neither a version's number nor highest", text)
		}
		version := int64(n)
		return changed(&version, s.versions.Use(r.Context(), version))
	})
	handle("POST /models/rollback", func(r *http.Request) (Change, error) {
		var only *int64 // the page names the version that its user has confirmed
		if text := r.URL.Query().Get("version"); text != "" {
			n, err := strconv.ParseUint(text, 10, 63)
			if err != nil {
				return Change{}, fmt.Errorf("version: %q is no version's number", text)
			}
			only = new(int64(n))
		}
		version, err := s.versions.Rollback(r.Context(), only)
		return changed(&version, err)
	})
}

// serveLevel answers with the log level, which a PUT has set before.
func (s *Service) serveLevel(w http.ResponseWriter, r *http.Request) {
	if s.LogLevel == nil {
		writeJSON(w, http.StatusConflict, Level{Error: errNoLevel.Error()})
		return
	}
	if before := s.LogLevel.Level(); r.Method == http.MethodPut {
		var next slog.Level
		text := r.URL.Query().Get("level")
		if err := next.UnmarshalText([]byte(text)); err != nil {
			writeJSON(w, http.StatusBadRequest, Level{before.String(), fmt.Sprintf("level: %q is none of debug, info, warn and error", text)})
			return
		}
		s.LogLevel.Set(min(before, next, slog.LevelInfo)) // so that the change itself is logged
		s.log.Info("log level changed", "level", next, "before", before)
		s.LogLevel.Set(next)
	}
	writeJSON(w, http.StatusOK, Level{Level: s.LogLevel.Level().String()})
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// changed turns the error that a change will not survive a restart into a warning.
func changed(version *int64, err error) (Change, error) {
	if errors.Is(err, model.ErrForgotten) {
		return Change{Version: version, Warning: err.Error()}, nil
	}
	return Change{Version: version}, err
}

func statusOf(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, model.ErrUnknownVersion):
		return http.StatusNotFound
	case errors.Is(err, model.ErrFailed), errors.Is(err, model.ErrNoWayBack), errors.Is(err, model.ErrOther), errors.Is(err, model.ErrNoVersion), errors.Is(err, model.ErrUnreadable):
		return http.StatusConflict
	}
	return http.StatusBadRequest
}
