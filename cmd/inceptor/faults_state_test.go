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

// stateFile is the file in the model's directory, which the services share, with the decisions
// about its versions.
func (f *faultRun) stateFile() string { return filepath.Join(f.model, ".inceptor.json") }

// stateBroken makes the state file invalid. A service that starts then waits until it is valid. One
// that serves goes on.
func (f *faultRun) stateBroken() {
	f.Helper()
	broken := [][]byte{nil, []byte("{"), []byte(`{"use":-1}`), []byte("\x00\x00\x00\x00")}
	content := broken[f.rng.IntN(len(broken))]
	i := f.rng.IntN(len(f.services))
	f.write(content)
	f.terminate(f.services[i])
	f.services[i] = f.start(f.journal)
	f.await(f.services[i], "cannot read the state file")
	if now, err := os.ReadFile(f.stateFile()); err != nil || string(now) != string(content) {
		f.Errorf("%s: a state file that cannot be read was written: %q, %v", f.delivery, now, err)
	}
	f.write([]byte("{}"))
}

// write replaces the state file.
func (f *faultRun) write(content []byte) {
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

// stateShared makes both services change the state file at the same time. The file is always whole,
// and holds the last change at the end.
func (f *faultRun) stateShared() {
	f.Helper()
	const changes = 20
	var wg sync.WaitGroup
	for i := range f.services {
		p := f.services[i]
		f.await(p, `msg="version serving"`)
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
		return
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

// use chooses a version in a service. It returns false if the service has died of a record.
func (f *faultRun) use(p *supervised, version string) bool {
	f.await(p, listening.String())
	address := listening.FindStringSubmatch(p.output())
	if address == nil {
		return false
	}
	res, err := http.Post(address[1]+"/models/use?version="+version, "", nil)
	if err != nil {
		for end := time.Now().Add(time.Minute); !p.diedOfRecord(); time.Sleep(20 * time.Millisecond) {
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
