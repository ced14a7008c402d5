package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"inceptor/model"
)

// A Change is the body of an answer to POST /models/use and /models/rollback.
type Change struct {
	Version *int64 `json:"version"` // that is to serve (null: the highest), or that was taken back
	Warning string `json:"warning,omitempty"`
	Error   string `json:"error,omitempty"` // why nothing was changed
}

// admin adds what changes the model to a mux. Only this machine may, not through
// a reverse proxy, and no page of another origin through somebody's browser.
func (s *Service) admin(mux *http.ServeMux) {
	guard := http.NewCrossOriginProtection()
	handle := func(pattern string, h func(*http.Request) (Change, error)) {
		mux.Handle(pattern, guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, status := Change{}, http.StatusForbidden
			err := errors.New("the model is changed from the service's own machine only, and through no proxy: run \"inceptor models\" there, or in its container")
			if local(r) {
				c, err = h(r)
				status = statusOf(err)
			}
			if err != nil {
				c.Error = err.Error()
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(c)
		})))
	}
	handle("POST /models/use", func(r *http.Request) (Change, error) {
		text := r.URL.Query().Get("version")
		if text == "highest" {
			return changed(nil, s.model.UseHighest(r.Context()))
		}
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return Change{}, fmt.Errorf("version: %q is neither a version's number nor highest", text)
		}
		version := int64(n)
		return changed(&version, s.model.Use(r.Context(), version))
	})
	handle("POST /models/rollback", func(r *http.Request) (Change, error) {
		version, err := s.model.Rollback(r.Context())
		return changed(&version, err)
	})
}

// changed makes a warning of the error that a change will not last.
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
	case errors.Is(err, model.ErrRefused), errors.Is(err, model.ErrNoWayBack), errors.Is(err, model.ErrNoVersion), errors.Is(err, model.ErrUnreadable):
		return http.StatusConflict
	}
	return http.StatusBadRequest
}
