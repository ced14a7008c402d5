package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"inceptor/model"
	"inceptor/service/page"
)

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
	mux.Handle("GET /models", s.checkHost(false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(append([]model.Status{}, versionsOf(s.versions)...)) // not null
	})))
	s.admin(mux)
	// Prometheus uses the name of its target as Host. Metrics hold nothing of a record.
	mux.Handle("GET /metrics", s.checkHost(true, promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})))
	// Everything else is the page's, or nowhere.
	mux.Handle("GET /", s.checkHost(false, page.New(source{s}, local, s.log).Handler()))
	return mux
}

func (s *Service) readiness() Readiness {
	_, err := s.classifier.Serving()
	return s.metrics.ready.report(err)
}

// fetching tells why fetching waits; empty: it does not.
func (s *Service) fetching() string {
	bytes, waiting := s.metrics.stream.fetching()
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("%d partitions wait: the records in memory take %d of the %d MiB of kafka.window.total-bytes",
		waiting, bytes>>20, s.stream.TotalBytes>>20)
}

// serve answers HTTP requests on l until ctx ends.
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
