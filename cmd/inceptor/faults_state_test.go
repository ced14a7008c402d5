package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

var listening = regexp.MustCompile(`listening address=(\S+)`)

// stateFile is where the services, which share their model's directory, keep
// what was decided about its versions.
func (f *faults) stateFile() string { return filepath.Join(f.model, ".inceptor.json") }

// stateBroken breaks the state file. A service that begins then waits until it
// is mended; one that serves goes on.
func (f *faults) stateBroken() {
	f.Helper()
	broken := [][]byte{nil, []byte("{"), []byte(`{"use":-1}`), []byte("\x00\x00\x00\x00")}
	content := broken[f.rng.IntN(len(broken))]
	i := f.rng.IntN(len(f.services))
	f.write(content)
	f.terminate(f.services[i])
	f.services[i] = f.start(f.journal)
	f.await(f.services[i], "choice cannot be read")
	if now, err := os.ReadFile(f.stateFile()); err != nil || string(now) != string(content) {
		f.Errorf("%s: a state file that cannot be read was written: %q, %v", f.delivery, now, err)
	}
	f.write([]byte("{}"))
}

// write replaces the state file.
func (f *faults) write(content []byte) {
	f.Helper()
	next := f.stateFile() + ".next"
	err := os.WriteFile(next, content, 0o600)
	if err == nil {
		err = os.Rename(next, f.stateFile())
	}
	if err != nil {
		f.Fatal(err)
	}
}

// stateShared lets both services change the state file at the same time. It is
// whole whenever one looks, and the last change stands in it.
func (f *faults) stateShared() {
	f.Helper()
	const changes = 20
	var wg sync.WaitGroup
	for i := range f.services {
		p := f.services[i]
		f.await(p, `msg=serving`)
		wg.Go(func() {
			for range changes {
				f.use(p, "1")
				f.use(p, "highest")
			}
		})
	}
	wg.Wait()
	last := f.services[f.rng.IntN(len(f.services))]
	if !f.use(last, "1") {
		return // it has died of a record
	}
	var kept struct{ Use *int64 }
	b, err := os.ReadFile(f.stateFile())
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil || kept.Use == nil || *kept.Use != 1 {
		f.Errorf("%s: version 1 was chosen, the state file is %q, %v", f.delivery, b, err)
	}
}

// use chooses a version in a service; false: that has died of a record.
func (f *faults) use(p *supervised, version string) bool {
	f.await(p, listening.String())
	address := listening.FindStringSubmatch(p.output())
	if address == nil {
		return false
	}
	res, err := http.Post(address[1]+"/models/use?version="+version, "", nil)
	if err != nil {
		for end := time.Now().Add(10 * time.Second); !p.diedOfRecord(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				f.Errorf("%s: use %s: %v", f.delivery, version, err)
				break
			}
		}
		return false
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		f.Errorf("%s: use %s: status %d", f.delivery, version, res.StatusCode)
	}
	return true
}
