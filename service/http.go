package service

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"inceptor/model"
	"inceptor/service/stream"
)

// A Readiness is the body of /readyz.
type Readiness struct {
	Ready      bool               `json:"ready"`
	Reasons    []string           `json:"reasons,omitempty"` // why not
	Partitions []stream.Partition `json:"partitions"`
	Retrying   map[string]string  `json:"retrying,omitempty"` // partition to error

	// Authentication is why the brokers have refused the last login. Connections that are open go on.
	Authentication string `json:"authentication,omitempty"`
}

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// routes serves health, metrics and the page.
func (s *Service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := s.readiness()
		w.Header().Set("Content-Type", "application/json")
		if !r.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(r)
	})
	mux.Handle("GET /models", s.named(false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(append([]model.Status{}, s.model.Versions()...)) // not null
	})))
	s.admin(mux)
	// Prometheus asks by the name of a service or target; no record is in it.
	mux.Handle("GET /metrics", s.named(true, promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})))
	mux.Handle("GET /{$}", s.named(false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		if err := page.Execute(w, s.status()); err != nil {
			s.log.Debug("page", "err", err)
		}
	})))
	return mux
}

func (s *Service) readiness() Readiness {
	s.metrics.mu.Lock()
	defer s.metrics.mu.Unlock()
	r := Readiness{Partitions: append([]stream.Partition{}, s.metrics.assigned...)}
	if err := s.metrics.denied; err != nil {
		r.Authentication = err.Error()
	}
	if !s.metrics.joined {
		r.Reasons = append(r.Reasons, "not a member of the consumer group yet")
		if r.Authentication != "" {
			r.Reasons = append(r.Reasons, r.Authentication)
		}
	}
	if _, err := s.model.Serving(); err != nil {
		r.Reasons = append(r.Reasons, err.Error())
	}
	if stuck := len(s.metrics.stuck); stuck > 0 && stuck == len(s.metrics.assigned) {
		r.Reasons = append(r.Reasons, "every partition stands still, each for the reason below")
	}
	for p, errs := range s.metrics.stuck {
		if r.Retrying == nil {
			r.Retrying = map[string]string{}
		}
		var texts []string
		for _, stage := range slices.Sorted(maps.Keys(errs)) {
			texts = append(texts, errs[stage].Error())
		}
		r.Retrying[p.String()] = strings.Join(texts, "; ")
	}
	r.Ready = len(r.Reasons) == 0
	return r
}

// status is what the page shows.
type status struct {
	Readiness
	Input, Output string
	Model         string
	Assumed       string // of the preprocessing of what serves; empty: nothing
	Fetching      string // what it waits for; empty: nothing
	Up            time.Duration
	Versions      []model.Status // but those that are of no interest
	Records       []lineOnPage
}

func (s *Service) status() status {
	serving := "none"
	if info, err := s.model.Serving(); err == nil {
		serving = info.String()
	}
	all, assumed := s.model.Versions(), ""
	if server, ok := s.model.(*model.Server); ok {
		assumed = server.Assumed()
	}
	for _, v := range all {
		if v.Label == model.LabelStable {
			assumed = v.Assumed
		}
	}
	versions := slices.DeleteFunc(all, func(v model.Status) bool {
		return v.State == model.StateUnloaded || v.Label == model.LabelStable
	})
	return status{
		Readiness: s.readiness(),
		Input:     strings.Join(s.config.Kafka.Input, ", "), Output: s.config.Kafka.Output, Model: serving,
		Assumed:  assumed,
		Fetching: s.fetching(),
		Up:       time.Since(s.started).Round(time.Second),
		Versions: versions,
		Records:  s.recent.list(),
	}
}

// fetching tells what fetching waits for, if it does.
func (s *Service) fetching() string {
	s.metrics.mu.Lock()
	defer s.metrics.mu.Unlock()
	if s.metrics.waiting == 0 {
		return ""
	}
	return fmt.Sprintf("%d partitions wait: the records in memory take %d of the %d MiB of kafka.window.total-bytes",
		s.metrics.waiting, s.metrics.held>>20, s.stream.TotalBytes>>20)
}

// serve answers on l until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-ctx.Done():
			_ = server.Close()
		case <-stopped:
		}
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
