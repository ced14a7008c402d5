package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"inceptor/bench/measure"
)

// An inceptor is the service as a process.
type inceptor struct{ *measure.Process }

func startInceptor(binary, broker, dir string, args []string) (inceptor, error) {
	p, err := measure.Start(binary, append([]string{
		"run", "--log.format", "json", "--kafka.brokers", broker, "--model.dir", dir, "--http.listen", "127.0.0.1:0",
	}, args...)...)
	return inceptor{p}, err
}

// An event is a line of the log.
type event struct {
	Time    time.Time
	Msg     string
	Address string        // of "listening"
	Took    time.Duration // of "version passed its gates"
}

// event finds the first one with this message.
func (p inceptor) event(msg string) (event, bool) {
	for line := range strings.Lines(p.Output()) {
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Msg == msg {
			return e, true
		}
	}
	return event{}, false
}

// metrics reads them, by name and labels.
func (p inceptor) metrics(ctx context.Context) (map[string]float64, error) {
	e, ok := p.event("listening")
	if !ok {
		return nil, errors.New("inceptor does not say where it listens")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Address+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = v
		}
	}
	return values, nil
}
